"""Records to tables: group by seed, reduce per checkpoint, say how sure each number is. No torch."""
