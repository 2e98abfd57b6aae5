// A Go program without C: its allocator is Go's own.
package main

import (
	"os"
	"time"
)

var kept [][]byte

func main() {
	if ready := os.Getenv("LEDGER_READY"); ready != "" {
		os.WriteFile(ready, nil, 0o644)
		for {
			if _, err := os.Stat(os.Getenv("LEDGER_GO")); err == nil {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	for i := 0; i < 1000; i++ {
		kept = append(kept, make([]byte, 100+i))
	}
	if out := os.Getenv("LEDGER_OUT"); out != "" {
		os.WriteFile(out, nil, 0o644)
	}
	os.Exit(23)
}
