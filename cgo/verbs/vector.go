package verbs

// vectorOf is the completion vector of a user of that number, where a device has so many: users are spread over all of them. A device that says nothing
// has the first.
func vectorOf(user, vectors int) int { return user % max(vectors, 1) }
