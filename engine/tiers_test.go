package engine

import (
	"slices"
	"strings"
	"testing"
)

func TestAllTiersAreListed(t *testing.T) {
	_, err := ParseTier("no such tier")
	if err == nil {
		t.Fatal("a tier that does not exist was parsed")
	}
	_, words, _ := strings.Cut(err.Error(), ": use ")
	var want []string
	for _, word := range strings.FieldsFunc(words, func(r rune) bool { return r == ',' || r == ' ' }) {
		if word != "or" && word != "auto" {
			want = append(want, word)
		}
	}
	var got []string
	for _, tier := range allTiers() {
		got = append(got, tier.String())
	}
	if !slices.Equal(got, want) || len(got) < 3 {
		t.Errorf("tiers %v, ParseTier knows %v", got, want)
	}
}

func TestADevicesTiersEndWithTheOneItTakes(t *testing.T) {
	list, release, err := List()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	for _, s := range list {
		tiers := s.Tiers()
		if (s.Problem == "") != (len(tiers) > 0) {
			t.Errorf("device %d has tiers %v and problem %q", s.Index, tiers, s.Problem)
		}
		if s.Problem == "" && tiers[len(tiers)-1] != s.Tier {
			t.Errorf("device %d: tiers %v, it takes %v", s.Index, tiers, s.Tier)
		}
	}
}

func TestFindDeviceNamesTheDeviceThatOpenOpens(t *testing.T) {
	s, release, err := FindDevice(Options{Device: "0"})
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if s.Physical == nil || s.Index != 0 {
		t.Errorf("%+v", s)
	}
	if _, _, err := FindDevice(Options{Device: "99"}); err == nil || !strings.Contains(err.Error(), "no device 99") {
		t.Errorf("error %v", err)
	}
}
