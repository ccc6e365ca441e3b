module shoal.example/exchange

go 1.19
