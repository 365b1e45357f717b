// Totals reads orders from standard input, one JSON object a line, and writes what each customer owes, as JSON, the largest
// sum first. Money is counted in cents. A line that is no order ends it with exit code 2 and says which.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sort"
)

type order struct {
	Customer string `json:"customer"`
	Cents    int64  `json:"cents"`
	Quantity int64  `json:"quantity"`
}

type total struct {
	Customer string `json:"customer"`
	Orders   int    `json:"orders"`
	Cents    int64  `json:"cents"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "totals:", err)
		os.Exit(2)
	}
}

func run() error {
	totals := map[string]*total{}
	lines := bufio.NewScanner(os.Stdin)
	for number := 1; lines.Scan(); number++ {
		var entry order
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if entry.Customer == "" || entry.Cents < 0 || entry.Quantity < 1 {
			return fmt.Errorf("line %d: a customer, cents and a quantity are wanted", number)
		}
		sum := totals[entry.Customer]
		if sum == nil {
			sum = &total{Customer: entry.Customer}
			totals[entry.Customer] = sum
		}
		sum.Orders++
		sum.Cents += entry.Cents * entry.Quantity
	}
	if err := lines.Err(); err != nil {
		return err
	}
	sorted := make([]*total, 0, len(totals))
	for _, sum := range totals {
		sorted = append(sorted, sum)
	}
	sort.Slice(sorted, func(a, b int) bool {
		if sorted[a].Cents != sorted[b].Cents {
			return sorted[a].Cents > sorted[b].Cents
		}
		return sorted[a].Customer < sorted[b].Customer
	})
	out := json.NewEncoder(os.Stdout)
	for _, sum := range sorted {
		if err := out.Encode(sum); err != nil {
			return err
		}
	}
	return nil
}
