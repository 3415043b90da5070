"""Files of measurements that `kernroll gate` judges: parsed, checked, explained."""
