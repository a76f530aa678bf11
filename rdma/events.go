package rdma

import (
	"fmt"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/transport"
)

// reaction is what follows from an asynchronous event of a device.
type reaction uint8

const (
	reactNot    reaction = iota
	reactPair            // its queue pair has failed: the connection ends
	reactDevice          // nothing of this device's works any more: all connections end, and it is opened again when one is asked for
	reactLook            // what was picked by may have changed: the next connection looks again
)

// reactionTo says what follows from an event, of ibv_event_type. A port that goes down ends no connection: the device goes on trying for half a second, and
// then they end, each with its reason; nor does an address that goes away.
func reactionTo(kind int) reaction {
	switch kind {
	case verbs.EventQPFatal, verbs.EventQPRequest, verbs.EventQPAccess:
		return reactPair
	case verbs.EventCQError, verbs.EventSRQError, verbs.EventDeviceFatal:
		return reactDevice
	case verbs.EventPortError, verbs.EventPortActive, verbs.EventGIDChange, verbs.EventLIDChange, verbs.EventPKeyChange, verbs.EventReregister:
		return reactLook
	}
	return reactNot
}

// eventText is what has happened, in words.
func eventText(kind int) string {
	switch kind {
	case verbs.EventCQError:
		return "its completion queue failed"
	case verbs.EventSRQError:
		return "its shared receive queue failed"
	case verbs.EventDeviceFatal:
		return "it failed or was removed"
	case verbs.EventPortError:
		return "a port went down"
	case verbs.EventPortActive:
		return "a port is active"
	case verbs.EventGIDChange:
		return "a table of GIDs has changed"
	}
	return fmt.Sprintf("event %d", kind)
}

// lostError is the end of a connection that the peer has not closed. It counts as ErrPeerGone: what was in flight may have been done.
type lostError struct{ why string }

// Error is one line.
func (e *lostError) Error() string { return e.why }

// Is makes it an ErrPeerGone.
func (e *lostError) Is(target error) bool { return target == transport.ErrPeerGone }

// Statuses of completions that tell what has happened, of ibv_wc_status.
const (
	statusLocal      = 2  // this side's queue pair cannot send as it was set up
	statusRefused    = 9  // this one and the next two: the peer's device refused what was sent
	statusRetries    = 12 // nothing was acknowledged
	statusNoReceives = 13 // a receive was missing each time
)

// lost says why a connection ended whose work request has failed. text and vendor are the device's words for the status, and down says that its port is not
// active, and what to do; "": it is.
func lost(status uint32, text string, vendor uint32, down string) error {
	said := fmt.Sprintf("%s, vendor's code %#x", text, vendor)
	switch {
	case down != "":
		return &lostError{fmt.Sprintf("%s; so the connection failed (%s)", down, said)}
	case status == statusLocal:
		return &lostError{fmt.Sprintf("the device could not send: the address that this side has connected from may be gone (%s)", said)}
	case status >= statusRefused && status < statusRetries:
		return &lostError{fmt.Sprintf("the peer's device refused what was sent (%s)", said)}
	case status == statusRetries:
		return &lostError{fmt.Sprintf("the peer acknowledged nothing of what was sent, again and again: its process, its host or the network between is gone (%s)", said)}
	case status == statusNoReceives:
		return &lostError{fmt.Sprintf("the peer took no message for too long: its process may be stopped (%s)", said)}
	}
	return fmt.Errorf("%w: %s", transport.ErrPeerGone, said)
}
