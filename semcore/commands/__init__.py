"""Commands: the only room that prints or knows flags."""
