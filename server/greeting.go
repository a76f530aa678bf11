package server

// Greeting is the line that `kvwire serve --json` prints when clients can connect.
type Greeting struct {
	Listening string `json:"listening"`
	Transport string `json:"transport"`
	Backend   string `json:"backend"`
	DirectIO  bool   `json:"direct_io"`
	Dir       string `json:"dir,omitempty"`
	Pid       int    `json:"pid"`
	Metrics   string `json:"metrics,omitempty"` // the address of that port
}

// TemporaryPrefix begins the name of a temporary folder.
const TemporaryPrefix = "kvwire-"
