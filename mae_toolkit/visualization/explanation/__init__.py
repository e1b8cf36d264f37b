"""Pictures of what a network has learned: functions of arrays that return pictures of Pillow."""
