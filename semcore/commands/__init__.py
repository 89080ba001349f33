"""What a user types: the only room that prints or knows flags."""
