package verbs

// withInline makes something that takes inline data: with as many bytes as are wanted, or else with the most at which it can be made, in eight
// steps at least, of a multiple of 16, down to none. A device refuses what it does not have, and tells nobody its limit beforehand.
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
