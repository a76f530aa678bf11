package resp_test

import (
	"fmt"
	"log"

	"github.com/kvwire/kvwire/resp"
)

// A command that arrives in two pieces. Its arguments lie in the received bytes.
func ExampleCommand_Read() {
	var c resp.Command
	b := []byte("*2\r\n$3\r\nGET\r\n$4\r\nke")
	if _, err := c.Read(b); err != nil {
		log.Fatal(err)
	}
	fmt.Println("whole:", c.Bytes > 0)
	b = append(b, "y1\r\n"...)
	if _, err := c.Read(b); err != nil {
		log.Fatal(err)
	}
	fmt.Println("whole:", c.Bytes > 0)
	for _, a := range c.Args {
		fmt.Printf("%s\n", a.Of(b))
	}
	// Output:
	// whole: false
	// whole: true
	// GET
	// key1
}
