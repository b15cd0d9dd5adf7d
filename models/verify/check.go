package verify

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Check tells, without a device, whether a file can be a golden case: it is readable and whole, and says which component
// it is for. What File finds wrong after that is the case's or the device's.
func Check(path string) error {
	if strings.EqualFold(filepath.Ext(path), ".json") {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !json.Valid(data) {
			return fmt.Errorf("%s: not valid JSON", path)
		}
		return nil
	}
	f, err := weights.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if f.Metadata()["component"] == "" {
		return fmt.Errorf("%s: no golden case: its metadata names no component", path)
	}
	return nil
}
