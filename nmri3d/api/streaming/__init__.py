"""What stands behind the WebSocket /ws/stream: its messages, their buffer, the streams and their connections."""
