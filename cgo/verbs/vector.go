package verbs

// vectorOf returns the completion vector of a user's number: users are distributed over all vectors of a device. A device that reports no vectors
// has the first one.
func vectorOf(user, vectors int) int { return user % max(vectors, 1) }
