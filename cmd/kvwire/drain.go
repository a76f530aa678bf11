package main

import (
	"errors"
	"fmt"
	"time"
)

// cutGrace is for the end of a server whose connections were cut off: for requests that the store has, and for its files.
const cutGrace = time.Second

// drain ends the server in good order: connections, when what they have sent was answered; then the partitions, whose files are flushed; then
// the loops. What keeps it from that for longer than the deadline is cut off, or left as it is: then the error says so, and the process is to end.
// What was acknowledged is on disk in any case.
func (s *served) drain(deadline time.Duration) error {
	begun := time.Now()
	s.unpark()
	s.log.Info("stopping: requests that were received are answered first (a second signal stops at once)", "drain_deadline", deadline)
	var before, after uint64
	gone := make(chan struct{}) // all connections are
	closed := make(chan error, 1)
	go func() {
		before, _ = s.unanswered()
		err := s.server.Close()
		if n, ok := s.unanswered(); ok {
			after = n
		} else {
			after = before // a loop has ended by itself, which is told
		}
		close(gone)
		closed <- errors.Join(err, s.close())
	}()
	timeout := time.NewTimer(deadline)
	defer timeout.Stop()
	select {
	case err := <-closed:
		return s.drained(begun, err, after-before)
	case <-timeout.C:
	}
	s.server.Cut()
	timeout.Reset(cutGrace)
	select {
	case err := <-closed:
		return s.drained(begun, err, after-before)
	case <-timeout.C:
	}
	undo() // the process ends without what is not over
	select {
	case <-gone:
		if n := after - before; n > 0 {
			return s.drained(begun, nil, n)
		}
		return fmt.Errorf("the store did not close within %v (--drain-deadline): what was acknowledged is on disk", deadline)
	default:
		return fmt.Errorf("requests were not answered within %v (--drain-deadline), since the store has not done them: what was acknowledged is on disk", deadline)
	}
}

// drained says how the end was.
func (s *served) drained(begun time.Time, err error, unanswered uint64) error {
	s.log.Info("stopped", "after", time.Since(begun), "requests_unanswered", unanswered)
	if err == nil && unanswered > 0 {
		err = fmt.Errorf("%d requests were not answered within %v (--drain-deadline): their clients did not take the answers, or the store had not done them, and the connections were cut off",
			unanswered, s.f.drainDeadline)
	}
	return err
}

// unanswered is how many requests have gone without an answer until now; false: a loop has ended.
func (s *served) unanswered() (n uint64, ok bool) {
	loops, err := s.server.Stats()
	for _, l := range loops {
		n += l.Unanswered
	}
	return n, err == nil
}
