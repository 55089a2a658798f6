"""The way to the nodes: SSH connections, host keys, the conversation with the agent. The only place that knows asyncssh."""
