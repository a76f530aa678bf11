package server

import (
	"errors"
	"fmt"
	"time"
)

// cutGrace is the time for the rest of the shutdown after connections were cut off: requests still in the store, and the store's files.
const cutGrace = time.Second

// Drain shuts the server down in order: it answers all received requests and closes the connections, then flushes and closes the partitions, then ends
// the loops. It blocks until all is closed, or deadline and cutGrace have passed. At the deadline it cuts off the remaining connections. unfinished is
// true if the server is still not closed after cutGrace: then the caller must end the process. In both cases err states what was left. Acknowledged
// changes are on disk in any case.
func (s *Server) Drain(deadline time.Duration) (unfinished bool, err error) {
	begun := time.Now()
	s.unpark()
	s.log.Info("stopping: requests that were received are answered first (a second signal stops at once)", "drain_deadline", deadline)
	var before, after uint64
	gone := make(chan struct{}) // closed when all connections are
	closed := make(chan error, 1)
	go func() {
		before, _ = s.unanswered()
		err := s.net.Close()
		if n, ok := s.unanswered(); ok {
			after = n
		} else {
			after = before // a loop has ended by itself; its error is reported elsewhere
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
		return true, fmt.Errorf("the store did not close within %v (--drain-deadline): acknowledged changes are on disk", deadline)
	default:
		return true, fmt.Errorf("requests were not answered within %v (--drain-deadline), because the store has not completed them: acknowledged changes are on disk", deadline)
	}
}

// drained logs how the server ended, and returns the error for requests without an answer.
func (s *Server) drained(begun time.Time, deadline time.Duration, err error, unanswered uint64) error {
	s.log.Info("stopped", "after", time.Since(begun), "requests_unanswered", unanswered)
	if err == nil && unanswered > 0 {
		err = fmt.Errorf("%d requests were not answered within %v (--drain-deadline): their clients did not receive the answers, or the store had not completed them; the connections were cut off",
			unanswered, deadline)
	}
	return err
}

// unanswered returns the number of requests without an answer so far. ok is false if a loop has ended.
func (s *Server) unanswered() (n uint64, ok bool) {
	loops, err := s.net.Stats()
	for _, l := range loops {
		n += l.Unanswered
	}
	return n, err == nil
}
