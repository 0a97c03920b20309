"""What the tests share: the builds, the server as a process, a client, model directories."""
