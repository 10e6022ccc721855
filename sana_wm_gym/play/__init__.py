"""Walk in a world while it is generated: a session without a network, a server and a page."""
