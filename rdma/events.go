package rdma

import (
	"fmt"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/transport"
)

// reaction is the consequence of an asynchronous event of a device.
type reaction uint8

const (
	reactNone   reaction = iota // none
	reactPair                   // its queue pair has failed: the connection ends
	reactDevice                 // the device is unusable: all its connections end, and the next connection opens it again
	reactRepick                 // the choice of device, port and GID may be out of date: the next connection chooses again
)

// reactionTo returns the reaction to an event of ibv_event_type. Neither a port that goes down nor an address that is removed ends a connection at once: the device
// retransmits for half a second, and then each connection ends with its own reason.
func reactionTo(kind int) reaction {
	switch kind {
	case verbs.EventQPFatal, verbs.EventQPRequest, verbs.EventQPAccess:
		return reactPair
	case verbs.EventCQError, verbs.EventSRQError, verbs.EventDeviceFatal:
		return reactDevice
	case verbs.EventPortError, verbs.EventPortActive, verbs.EventGIDChange, verbs.EventLIDChange, verbs.EventPKeyChange, verbs.EventReregister:
		return reactRepick
	}
	return reactNone
}

// eventText describes an event.
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

// lostError is the reason for the end of a connection that the peer did not close. errors.Is finds ErrPeerGone in it: requests in flight may have been executed.
type lostError struct{ why string }

// Error returns one line.
func (e *lostError) Error() string { return e.why }

// Is reports true for ErrPeerGone.
func (e *lostError) Is(target error) bool { return target == transport.ErrPeerGone }

// Statuses of ibv_wc_status that identify a cause.
const (
	statusLocal      = 2  // this side's queue pair cannot send as it was set up
	statusRefused    = 9  // this one and the next two: the peer's device rejected a request
	statusRetries    = 12 // nothing was acknowledged
	statusNoReceives = 13 // a receive was missing each time
)

// failureReason returns the reason for the end of a connection after a failed work request. text and vendor are the device's description of the status. down is not empty
// if the port is not active: it states that, with a remedy.
func failureReason(status uint32, text string, vendor uint32, down string) error {
	detail := fmt.Sprintf("%s, vendor's code %#x", text, vendor)
	switch {
	case down != "":
		return &lostError{fmt.Sprintf("%s; so the connection failed (%s)", down, detail)}
	case status == statusLocal:
		return &lostError{fmt.Sprintf("the device could not send: this side's address may have been removed (%s)", detail)}
	case status >= statusRefused && status < statusRetries:
		return &lostError{fmt.Sprintf("the peer's device rejected a request (%s)", detail)}
	case status == statusRetries:
		return &lostError{fmt.Sprintf("the peer did not acknowledge a message after all retries: its process, its host or the network in between is down (%s)", detail)}
	case status == statusNoReceives:
		return &lostError{fmt.Sprintf("the peer posted no receive for too long: its process may be stopped (%s)", detail)}
	}
	return fmt.Errorf("%w: %s", transport.ErrPeerGone, detail)
}
