"""Ways to work through a plan: each only has to get `fairbench cell FOLDER` started somewhere."""
