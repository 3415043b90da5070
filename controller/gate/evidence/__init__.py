"""What was seen beside numbers, and how it is read: runs, selftests, rulings on kernel logs, the swap formula."""
