package hostmem

func available() (int64, bool) { return system{"/"}.available() }

func used() (Use, bool) { return system{"/"}.used() }
