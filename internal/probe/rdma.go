package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// rdmaDevices are the names of the RDMA devices, sorted; none when there is no RDMA class. Package rdma/device
// has their ports and addresses.
func (h *Host) rdmaDevices() (names []string) {
	entries, _ := fs.ReadDir(h.Root, "sys/class/infiniband")
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// RDMA reports whether a verbs device can be opened here, or which of module, device, device file,
// permission and link is missing.
func RDMA(h *Host) Finding {
	f := Finding{Name: NameRDMA, State: Unavailable}
	names := h.rdmaDevices()
	if len(names) == 0 {
		h.noRDMADevice(&f)
		return f
	}
	list := strings.Join(names, ", ")
	var denied, down string
	for _, name := range names {
		uverbs := h.uverbs(name)
		if uverbs == "" {
			continue
		}
		switch err := h.Access(uverbs); {
		case errors.Is(err, fs.ErrPermission):
			denied = uverbs
			continue
		case err != nil:
			continue
		}
		if state, isDown := h.portDown(name); isDown {
			down = name + ": " + state
			continue
		}
		f.State, f.Why = Available, fmt.Sprintf("%s (%s)", list, uverbs)
		if h.isSoftware(name) {
			f.Why += "; " + name + " is software (soft-RoCE or siw), and its rows say so"
		}
		return f
	}
	switch {
	case down != "":
		f.Why, f.Remedy = "no active port: "+down, "ip link set its interface up, or plug in the cable"
	case denied != "":
		f.Why = "no permission for " + denied
		f.Remedy = DeviceFileRemedy(denied)
	case h.leaving(names):
		f.Why, f.Remedy = list+" is being removed: a process that has it open delays this", LeavingRemedy
	case !h.exists("sys/class/infiniband_verbs"):
		f.Why, f.Remedy = list+" is there, but the kernel module ib_uverbs is not loaded", "as root: modprobe ib_uverbs"
	default:
		f.Why = list + " is there, but no /dev/infiniband/uverbs* that belongs to it"
		f.Remedy = "in a container: docker run --device /dev/infiniband; elsewhere as root: modprobe ib_uverbs, and udevadm trigger"
	}
	return f
}

// Leaving reports whether a device is being removed: the kernel has already removed its device file, which sysfs shows (in a container, too), and waits for the
// processes that have it open. Without the module ib_uverbs no device has such a file.
func (h *Host) Leaving(device string) bool {
	if !h.exists("sys/class/infiniband/"+device) || !h.exists("sys/class/infiniband_verbs") {
		return false
	}
	files, _ := fs.Glob(h.Root, "sys/class/infiniband_verbs/uverbs*/ibdev")
	for _, f := range files {
		if name, _ := h.read(f); name == device {
			return false
		}
	}
	return true
}

// leaving is Leaving for all devices.
func (h *Host) leaving(devices []string) bool {
	for _, d := range devices {
		if !h.Leaving(d) {
			return false
		}
	}
	return true
}

// LeavingRemedy is the remedy for a device that is being removed.
const LeavingRemedy = "end what uses it (rdma resource show qp names the processes), and make it again: rdma link add NAME type rxe netdev INTERFACE; or use another device"

// DeviceFileRemedy returns the remedy for a file in /dev/infiniband that may not be opened.
func DeviceFileRemedy(file string) string {
	return "run as root, or as root: chmod a+rw " + file + " (or usermod -aG rdma USER, where the file is that group's), or in a container: --device " + file
}

// uverbs is the device file of a device that exists, or "".
func (h *Host) uverbs(device string) string {
	files, _ := fs.Glob(h.Root, "sys/class/infiniband_verbs/uverbs*/ibdev")
	for _, f := range files {
		node := "dev/infiniband/" + path.Base(path.Dir(f))
		if name, _ := h.read(f); name == device && h.exists(node) {
			return "/" + node
		}
	}
	return ""
}

// portDown reports whether all ports of the device are known not to be active, and returns the state of the last one.
func (h *Host) portDown(device string) (string, bool) {
	files, _ := fs.Glob(h.Root, "sys/class/infiniband/"+device+"/ports/*/state")
	last := ""
	for _, p := range files {
		s, ok := h.read(p)
		if !ok || strings.Contains(s, "ACTIVE") {
			return "", false
		}
		last = fmt.Sprintf("port %s is %s", path.Base(path.Dir(p)), s)
	}
	return last, last != ""
}

// isSoftware reports whether a device is software: rxe, siw.
func (h *Host) isSoftware(device string) bool {
	target, err := fs.ReadLink(h.Root, "sys/class/infiniband/"+device)
	return err == nil && strings.Contains(target, "/virtual/")
}

const noDevice = "no RDMA device on this machine"

// noRDMADevice sets the reason and the remedy: the kernel has no driver for software RDMA, or has one without a device.
func (h *Host) noRDMADevice(f *Finding) {
	link := "rdma link add rxe0 type rxe netdev " + h.interfaceName()
	switch rxe := Module(h, "rdma_rxe"); {
	case rxe.State == Available && h.loaded("rdma_rxe"):
		f.Why, f.Remedy = noDevice+", though rdma_rxe is loaded", "make rdma-setup, or as root: "+link
	case rxe.State == Available:
		f.Why, f.Remedy = noDevice+"; rdma_rxe can make one in software", "make rdma-setup, or as root: modprobe rdma_rxe && "+link
	case rxe.State == Unknown:
		f.Why = noDevice + ", and " + rxe.Why
		f.Remedy = "on the host as root: modprobe rdma_rxe && " + link
	default:
		f.Why, f.Remedy = noDevice+": "+rxe.Why, "make vm, which runs it in a guest; or "+rxe.Remedy
	}
}

// interfaceName is an interface on which a software device can be made: the first that is not lo.
func (h *Host) interfaceName() string {
	entries, _ := fs.ReadDir(h.Root, "sys/class/net")
	for _, e := range entries {
		if e.Name() != "lo" && h.exists("sys/class/net/"+e.Name()+"/address") {
			return e.Name()
		}
	}
	return "eth0"
}

func (h *Host) loaded(module string) bool { return h.exists("sys/module/" + module) }

// Module reports whether a kernel module is loaded, built in, or could be loaded.
func Module(h *Host, module string) Finding {
	f := Finding{Name: "module " + module}
	if h.loaded(module) {
		f.State, f.Why = Available, "loaded"
		return f
	}
	release := h.release()
	dir := "lib/modules/" + release
	known := false
	for _, index := range []string{"modules.builtin", "modules.dep"} {
		text, ok := h.read(dir + "/" + index)
		known = known || ok
		for line := range strings.Lines(text) {
			file, _, _ := strings.Cut(strings.TrimSpace(line), ":")
			name, _, isModule := strings.Cut(path.Base(file), ".ko")
			if isModule && strings.ReplaceAll(name, "-", "_") == module {
				f.State, f.Why = Available, "can be loaded"
				return f
			}
		}
	}
	switch {
	case release == "" || !known && h.exists(dir):
		f.Why = "the modules of the running kernel cannot be listed"
	case known:
		f.State, f.Why = Unavailable, fmt.Sprintf("kernel %s has no module %s", release, module)
		f.Remedy = "Ubuntu: apt install linux-modules-extra-" + release + "; Debian: boot its linux-image-amd64 or linux-image-arm64"
	default:
		f.State, f.Why = Unavailable, fmt.Sprintf("kernel %s has no modules here (no /lib/modules/%s)", release, release)
		f.Remedy = "boot a distribution's own kernel (Debian: linux-image-amd64); in a container: ask for the host's /dev/infiniband"
	}
	return f
}

// NetNamespace reports the network namespace of the process. Software RDMA devices are visible in
// the initial one only (before about Linux 7.1).
func NetNamespace(h *Host) Finding {
	f := Finding{Name: "network namespace"}
	own, err := fs.ReadLink(h.Root, "proc/self/ns/net")
	if err != nil {
		f.Why = "/proc/self/ns/net cannot be read"
		return f
	}
	first, err := fs.ReadLink(h.Root, "proc/1/ns/net")
	f.State = Available
	switch {
	case err != nil:
		f.Why = own + "; that of process 1 cannot be read"
	case own == first:
		f.Why = "that of process 1"
	default:
		f.Why = fmt.Sprintf("%s, process 1 has %s: software RDMA devices (rxe) are not visible here", own, first)
		f.Remedy = "for rxe: run in the initial namespace (docker run --network host)"
	}
	return f
}
