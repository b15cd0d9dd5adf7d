package smallfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "list")
	if err := os.WriteFile(path, []byte("twelve bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := Read(path, 12, "list"); err != nil || string(data) != "twelve bytes" {
		t.Errorf("read %q, %v", data, err)
	}
	for name, c := range map[string]struct {
		path string
		most int64
		want string
	}{
		"a file that is larger than it may be": {path, 11, "12 bytes, and no list has more than 11"},
		"a folder":                             {folder, 12, "not a regular file"},
		"a file that is not there":             {path + "s", 12, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Read(c.path, c.most, "list"); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), folder) {
				t.Errorf("error %v, want %q and no path", err, c.want)
			}
		})
	}
}
