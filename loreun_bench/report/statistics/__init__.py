"""What so few seeds show, and what they do not."""
