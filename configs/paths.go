package configs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Locate returns where a checkpoint path of the configuration lies. A relative path is tried, in this order,
//
//  1. as it stands, against the working directory, as upstream does;
//  2. against the folder of the configuration file;
//  3. in checkpointDir (when not empty): the whole path, then without its leading folders, one after the other, so
//     that a --checkpoint-dir may be the folder that holds "weights", or be it, or be the model's own folder.
//
// A missing file whose sharded form is there (PATH.index.json beside it) gives the folder of the shards. When
// nothing exists the error lists the places tried.
func (c *Config) Locate(path, checkpointDir string) (string, error) {
	if path == "" {
		return "", fmt.Errorf("%s: empty checkpoint path", c.File)
	}
	native := filepath.Clean(filepath.FromSlash(path))
	tried := []string{native}
	if !filepath.IsAbs(native) {
		if c.Dir != "" && filepath.Clean(c.Dir) != "." {
			tried = append(tried, filepath.Join(c.Dir, native))
		}
		if checkpointDir != "" {
			for rest := native; ; {
				tried = append(tried, filepath.Join(checkpointDir, rest))
				_, tail, more := strings.Cut(rest, string(filepath.Separator))
				if !more {
					break
				}
				rest = tail
			}
		}
	}
	for _, p := range tried {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
		if _, err := os.Stat(p + ".index.json"); err == nil {
			return filepath.Dir(p), nil
		}
	}
	return "", fmt.Errorf("checkpoint %s of %s not found (tried %s); name its folder with --checkpoint-dir", path, c.File, strings.Join(tried, ", "))
}
