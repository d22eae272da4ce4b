//go:build slow

package runtime

import "testing"

// The same as TestDamage, at many more places.
func TestDamageDensely(t *testing.T) {
	p := newPatient(t, 6)
	v := p.damage(70, 6)
	if v.unharmed == 0 || v.older == 0 {
		t.Error("the damage did not reach the newest generation, or nothing but it")
	}
}
