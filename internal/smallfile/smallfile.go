// Package smallfile reads files that are expected to be small, whatever a path names.
package smallfile

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Read returns a regular file's bytes. It refuses other kinds of files, which may have no end, and files of more than most bytes; what
// names the kind of file in that error. Errors do not name the path.
func Read(path string, most int64, what string) ([]byte, error) {
	info, err := os.Stat(path)
	var pathError *os.PathError
	switch {
	case errors.As(err, &pathError):
		return nil, pathError.Err
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case info.Size() > most:
		return nil, fmt.Errorf("%d bytes, and no %s has more than %d", info.Size(), what, most)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}
