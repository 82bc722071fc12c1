"""Records to tables: accuracies per checkpoint, averaged over seeds, with intervals. No torch."""
