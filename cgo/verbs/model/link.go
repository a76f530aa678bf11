// Package model is a model of an RDMA device, in C: libibverbs' functions for processes of one user on one machine. It is written for any program that uses
// verbs; package verbs uses it instead of libibverbs. It imports nothing of ours.
package model

// Link is the modelled link.
type Link struct {
	RTTNanos      uint64 // round trip of an empty message, without the time that programs take
	BitsPerSecond uint64 // of each direction; 0: endless
	MTU           int    // bytes of payload of a packet
	WRNanos       int    // time that posting a work request takes, besides what it takes here
	DoorbellNanos int    // likewise, each call that posts
	ReadNanos     int    // time that the peer's device takes for an RDMA READ
}

// Default is a 100 Gb/s network with a round trip of 2 µs.
var Default = Link{RTTNanos: 2000, BitsPerSecond: 100e9, MTU: 4096}
