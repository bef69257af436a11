-- Publish a process's own heartbeat, on a Cluster. Plain PUBLISH has no key: any node takes it, also
-- one that has left. A key is sent where a grant's commands are sent.
-- KEYS[1]  the process's own channel
-- ARGV[1]  what is to come back
-- returns  how many listen to it on this node
return redis.call('PUBLISH', KEYS[1], ARGV[1])
