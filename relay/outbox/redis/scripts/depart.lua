-- Know a member no more.

redis.call('ZREM', at .. 'members:seen', given.name)
return redis.call('HDEL', at .. 'members', given.name)
