// Goroutines whose stacks grow and move, and C functions that they call: only those are in the ledger.
package main

/*
#include "ledger.h"

SITE static void *site_from_go(size_t n) {
	void *p = malloc(n);
	KEEP(p);
	LEDGER_ALLOC(p, n);
	return p;
}
static void *allocate(size_t n) { return site_from_go(n); }
static void give_back(void *p) { release(p); }
*/
import "C"

import (
	"os"
	"runtime"
	"sync"
	"unsafe"
)

// Deep enough to move the stack a few times, with a C call at the bottom.
func deep(depth int, n int) unsafe.Pointer {
	var room [64]byte
	room[depth%64] = byte(n)
	if depth == 0 {
		return C.allocate(C.size_t(n))
	}
	p := deep(depth-1, n)
	if room[depth%64] != byte(n) {
		os.Exit(98)
	}
	return p
}

func main() {
	C.ledger_start()
	var wait sync.WaitGroup
	for g := 0; g < 4; g++ {
		wait.Add(1)
		go func(g int) {
			defer wait.Done()
			var kept []byte
			for i := 0; i < 200; i++ {
				p := deep(i, 101+2*i)
				kept = append(kept, make([]byte, 1000)...)
				if i%3 != 0 {
					C.give_back(p)
				}
				if i%50 == 0 {
					runtime.GC()
				}
			}
			_ = kept
		}(g)
	}
	wait.Wait()
	C.ledger_write()
	os.Exit(23)
}
