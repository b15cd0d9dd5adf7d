package load

import (
	"context"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// RowReader is a Reader that can read some rows of a matrix: for tables of which a prompt needs little, and for
// matrices that are used piece by piece.
type RowReader interface {
	Reader
	// ReadRows writes rows from to from+count-1 of the first axis of a tensor of this shape as a type into dst. Errors
	// are those of Read.
	ReadRows(ctx context.Context, name string, shape []int, from, count int, to engine.DType, dst []byte) error
}

// ReadRows reads rows of a tensor from any Reader: from one that is no RowReader it reads the whole tensor.
func ReadRows(ctx context.Context, r Reader, name string, shape []int, from, count int, to engine.DType, dst []byte) error {
	row := rowBytes(name, shape, from, count, to, dst)
	if rows, ok := r.(RowReader); ok {
		return rows.ReadRows(ctx, name, shape, from, count, to, dst)
	}
	whole := make([]byte, int64(shape[0])*row)
	if err := r.Read(ctx, name, shape, to, whole); err != nil {
		return err
	}
	copy(dst, whole[int64(from)*row:])
	return nil
}

// rowBytes returns the bytes of a row, and panics when rows or buffer do not fit the shape.
func rowBytes(name string, shape []int, from, count int, to engine.DType, dst []byte) int64 {
	if len(shape) < 2 || from < 0 || count < 0 || from+count > shape[0] {
		panic(fmt.Sprintf("load.ReadRows: rows %d to %d of %s %v", from, from+count, name, shape))
	}
	row := elements(shape[1:]) * to.Size()
	if int64(len(dst)) != int64(count)*row {
		panic(fmt.Sprintf("load.ReadRows: buffer of %d bytes for %d rows of %s %v", len(dst), count, name, shape))
	}
	return row
}

// rowsKey names a run of rows among the tensors known to be finite.
type rowsKey struct {
	name        string
	from, count int
}

func (r *checkpointReader) ReadRows(ctx context.Context, name string, shape []int, from, count int, to engine.DType, dst []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	rowBytes(name, shape, from, count, to, dst)
	if q, ok, err := r.stored(name, shape); ok || err != nil {
		if err != nil {
			return err
		}
		row := int(elements(shape[1:]))
		return q.Values(dst, from*row, count*row, fileType(to))
	}
	t, err := r.ckpt.Require(name, shape...)
	if err != nil {
		return err
	}
	t = t.Rows(from, count)
	key := rowsKey{name, from, count}
	_, whole := r.checked.Load(name)
	if _, ok := r.checked.Load(key); ok || whole {
		return weights.ConvertTo(dst, t, fileType(to))
	}
	if err := weights.ConvertFinite(dst, t, fileType(to)); err != nil {
		return err
	}
	r.checked.Store(key, true)
	return nil
}
