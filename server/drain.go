package server

import (
	"errors"
	"fmt"
	"time"
)

// cutGrace is for the end of a server whose connections were cut off: for requests that the store has, and for its files.
const cutGrace = time.Second

// Drain ends the server in good order: connections, when what they have sent was answered; then the partitions, whose files are flushed; then
// the loops. What takes longer than the deadline is cut off, or, with unfinished, left as it is: then the process must end. Both are in the error.
// What was acknowledged is on disk in any case.
func (s *Server) Drain(deadline time.Duration) (unfinished bool, err error) {
	begun := time.Now()
	s.unpark()
	s.log.Info("stopping: requests that were received are answered first (a second signal stops at once)", "drain_deadline", deadline)
	var before, after uint64
	gone := make(chan struct{}) // all connections are
	closed := make(chan error, 1)
	go func() {
		before, _ = s.unanswered()
		err := s.net.Close()
		if n, ok := s.unanswered(); ok {
			after = n
		} else {
			after = before // a loop has ended by itself, which is told
		}
		close(gone)
		closed <- errors.Join(err, s.Close())
	}()
	timeout := time.NewTimer(deadline)
	defer timeout.Stop()
	select {
	case err := <-closed:
		return false, s.drained(begun, deadline, err, after-before)
	case <-timeout.C:
	}
	s.net.Cut()
	timeout.Reset(cutGrace)
	select {
	case err := <-closed:
		return false, s.drained(begun, deadline, err, after-before)
	case <-timeout.C:
	}
	select {
	case <-gone:
		if n := after - before; n > 0 {
			return true, s.drained(begun, deadline, nil, n)
		}
		return true, fmt.Errorf("the store did not close within %v (--drain-deadline): what was acknowledged is on disk", deadline)
	default:
		return true, fmt.Errorf("requests were not answered within %v (--drain-deadline), since the store has not done them: what was acknowledged is on disk", deadline)
	}
}

// drained logs how the server ended, and returns the error for requests without an answer.
func (s *Server) drained(begun time.Time, deadline time.Duration, err error, unanswered uint64) error {
	s.log.Info("stopped", "after", time.Since(begun), "requests_unanswered", unanswered)
	if err == nil && unanswered > 0 {
		err = fmt.Errorf("%d requests were not answered within %v (--drain-deadline): their clients did not take the answers, or the store had not done them, and the connections were cut off",
			unanswered, deadline)
	}
	return err
}

// unanswered is how many requests have gone without an answer until now; false: a loop has ended.
func (s *Server) unanswered() (n uint64, ok bool) {
	loops, err := s.net.Stats()
	for _, l := range loops {
		n += l.Unanswered
	}
	return n, err == nil
}
