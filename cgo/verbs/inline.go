package verbs

// withInline calls make with want bytes of inline data. If that fails, it tries fewer bytes, in at least eight
// steps of a multiple of 16, down to 0. A device cannot be asked for its limit: it only rejects larger values.
func withInline(want int, make func(bytes int) error) error {
	err := make(want)
	step := (want/8 + 15) &^ 15
	for bytes := (want - 1) / max(step, 1) * step; err != nil && want > 0; bytes -= step {
		if err = make(bytes); bytes == 0 {
			break
		}
	}
	return err
}
