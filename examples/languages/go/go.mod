module bailey.example/totals

go 1.21
