package factor

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma"
)

const rdmaGroup = "RDMA (--transport rdma)"

var onRDMA = Where("transport", "rdma")

// modelDevice is the value of rdma-device for the modelled device.
const modelDevice = "model"

// rdmaDefaults are the defaults of rdma.Options. The zero value is always valid.
var rdmaDefaults, _ = rdma.Options{}.Defaults()

// rdmaOwners are the Owners of RDMA's factors.
var rdmaOwners = []string{"transport", "client-transport", "rdma-verb"}

var rdmaRows = []Factor{
	{Name: "rdma-verb", Common: true, Group: rdmaGroup, Side: Server | Client | Alike, Default: rdmaDefaults.Verb.String(), Words: rdma.Verbs(), Owners: rdmaOwners, At: func(v *Values) any { return &v.RDMA.Verb },
		Help: "how messages travel: " + strings.Join(rdma.Verbs(), ", ") + "; write-poll needs --wait spin",
		When: onRDMA},
	{Name: "rdma-device", Group: rdmaGroup, Side: Server | Client | Alike, Default: "auto", Words: []string{"auto", modelDevice}, NoColumn: "`device` and `rdma_provider` are those that were used", Owners: rdmaOwners, At: func(v *Values) any { return &v.RDMA.Device },
		Help: "auto: this machine's device with the server's address; model: a modelled device, between processes of one user on this machine",
		When: onRDMA},
	{Name: "rdma-model", Group: rdmaGroup, Side: Server | Client | Alike, Default: rdma.DefaultLink, Owners: rdmaOwners, At: func(v *Values) any { return &v.RDMA.Model },
		Help:    "the modelled link, a list such as " + rdma.DefaultLink + " (also loss=0 and seed=0), or a preset and what differs from it: " + strings.Join(rdma.LinkPresets(), ", "),
		Meaning: "the modelled link: round trip, rate, path MTU, the times of a work request, a doorbell and the peer's part of a READ, and the share of packets that are lost",
		When:    onRDMA.And("rdma-device", modelDevice)},
	{Name: "rdma-connect", Group: rdmaGroup, Side: Server | Client | Alike, Default: rdmaDefaults.Connect.String(), Words: []string{"tcp", "cm"}, Owners: rdmaOwners, At: func(v *Values) any { return &v.RDMA.Connect },
		Help: "how queue pairs are connected: tcp, or cm (rdma_cm); the hello uses TCP in both cases",
		When: onRDMA},
	{Name: "rdma-inline-bytes", Group: rdmaGroup, Side: Server | Client | Alike, Default: fmt.Sprint(rdmaDefaults.InlineBytes), Range: Span{"0", "1KiB"}, Owners: rdmaOwners, At: func(v *Values) any { return &v.RDMA.InlineBytes },
		Help:    "the largest message that is copied into its work request, if the device supports it; 0: none",
		Meaning: "the largest message that is copied into its work request, as granted by the device",
		When:    onRDMA},
	{Name: "rdma-signal-every", Group: rdmaGroup, Side: Server | Client | Alike, Default: fmt.Sprint(rdmaDefaults.SignalEvery), Range: Span{"1", "64"}, Owners: rdmaOwners, At: func(v *Values) any { return &v.RDMA.SignalEvery },
		Help: "one in this many work requests has a completion; so has each whose memory can be reused only then",
		When: onRDMA},
	{Name: "rdma-post-batch", Group: rdmaGroup, Side: Server | Client | Alike, Default: fmt.Sprint(rdmaDefaults.PostBatch), Range: Span{"1", "64"}, Owners: rdmaOwners, At: func(v *Values) any { return &v.RDMA.PostBatch },
		Help: "most work requests per doorbell",
		When: onRDMA},
	{Name: "rdma-slot-bytes", Group: rdmaGroup, Side: Server | Client | Alike, Default: fmt.Sprint(rdmaDefaults.SlotBytes), Range: Span{"256", "1MiB"}, Hidden: true, Owners: rdmaOwners, At: func(v *Values) any { return &v.RDMA.SlotBytes },
		Help: "size of each receive, and so of the largest message; larger requests travel in fragments",
		When: onRDMA},
	{Name: "rdma-srq", Group: rdmaGroup, Side: Server | Client | Alike, Default: "false", Owners: rdmaOwners, At: func(v *Values) any { return &v.RDMA.SRQ },
		Help: "the connections of a loop share one receive queue; not with the verbs write and write-poll",
		When: onRDMA, Sweep: Unless("rdma-verb", rdma.Write.String(), rdma.WritePoll.String())},
	{Name: "rdma-mtu", Group: rdmaGroup, Side: Server | Client | Alike, Default: fmt.Sprint(rdmaDefaults.MTU), Range: Span{"256", "4096"}, Hidden: true, Owners: rdmaOwners, At: func(v *Values) any { return &v.RDMA.MTU },
		Help:    "path MTU in bytes: 256, 512, 1024, 2048 or 4096; the ports may limit it",
		Meaning: "path MTU in bytes",
		When:    onRDMA},
	{Name: "huge-pages", Group: rdmaGroup, Side: Server | Client | Alike, Default: "false", Hidden: true, Owners: []string{"transport"}, At: func(v *Values) any { return &v.RDMA.HugePages },
		Help:    "messages in huge pages, if the kernel has free ones",
		Meaning: "huge pages were requested for registered memory",
		When:    onRDMA},
	{Name: "rdma-export-bytes", Group: rdmaGroup, Side: Server, Default: "64MiB", Range: Span{"4KiB", "1TiB"}, Owners: rdmaOwners, At: func(v *Values) any { return &v.RDMA.ExportBytes },
		Help: "verb read: memory of the server's tables of items that clients READ, of all loops together",
		When: onRDMA.And("rdma-verb", rdma.Read.String())},
	{Name: "rdma-traffic-class", Group: rdmaGroup, Side: Server | Client | Alike, Default: "0", Range: Span{"0", "255"}, Owners: rdmaOwners, At: func(v *Values) any { return &v.RDMA.TrafficClass },
		Help: "traffic class of the packets: on Ethernet the byte with DSCP, by which switches choose a queue; 0: the system's",
		When: onRDMA},
	{Name: "rdma-service-level", Group: rdmaGroup, Side: Server | Client | Alike, Default: "0", Range: Span{"0", "15"}, Owners: rdmaOwners, At: func(v *Values) any { return &v.RDMA.ServiceLevel },
		Help: "service level of the packets: on InfiniBand it chooses the virtual lane; 0: the path record's with --rdma-connect cm, else 0",
		When: onRDMA},
}

// ReadsItems reports whether clients fetch items by one-sided READs.
func (v *Values) ReadsItems() bool {
	return v.Server.Transport == "rdma" && v.RDMA.Verb == rdma.Read.String()
}

// Check returns an error for values that package rdma does not accept. It writes the modelled link with all its parameters.
func (v *RDMAValues) Check() error {
	l, err := rdma.ParseLink(v.Model)
	if err != nil {
		return fmt.Errorf("--rdma-model %q: %w", v.Model, err)
	}
	v.Model = l.String()
	if v.Device == modelDevice && v.Connect == rdma.ByCM.String() {
		return errors.New("--rdma-connect cm is of the kernel's devices only, and --rdma-device model is none: --rdma-connect tcp")
	}
	_, err = v.options().Defaults()
	return err
}

// UseDevice makes this process use the device of the values: the machine's, or the modelled one.
func (v *RDMAValues) UseDevice() error {
	if v.Device != modelDevice {
		return rdma.UseDevices()
	}
	l, err := rdma.ParseLink(v.Model)
	if err != nil {
		return err
	}
	return rdma.UseModel(l)
}

// Modelled reports whether the device is the modelled one.
func (v *RDMAValues) Modelled() bool { return v.Device == modelDevice }

// checkRDMA is RDMAValues.Check, and checks the verb and the wait policy against each other.
func (v *Values) checkRDMA() error {
	if err := v.RDMA.Check(); err != nil {
		return err
	}
	wait, _ := loop.ParseWait(v.Server.Wait) // CheckWords has checked it
	return v.RDMA.Options().Verb.CheckWait(wait)
}

// Options returns the options of package rdma, for both sides.
func (v *RDMAValues) Options() rdma.Options {
	o, _ := v.options().Defaults() // Check has reported the error
	return o
}

func (v *RDMAValues) options() rdma.Options {
	o := rdma.Options{SlotBytes: int(v.SlotBytes), InlineBytes: int(v.InlineBytes), SignalEvery: v.SignalEvery,
		PostBatch: v.PostBatch, SRQ: v.SRQ, MTU: v.MTU, TrafficClass: v.TrafficClass, ServiceLevel: v.ServiceLevel, HugePages: v.HugePages}
	if o.InlineBytes == 0 {
		o.InlineBytes = -1
	}
	o.Verb, _ = rdma.ParseVerb(v.Verb) // CheckWords has checked it
	o.Connect, _ = rdma.ParseConnect(v.Connect)
	return o
}
