"""Three contexts side by side: the shop, billing and notifications, which know of each other what is published."""
