package promptfile

import (
	"bytes"
	"fmt"
	"io"

	"gopkg.in/yaml.v3"
)

// Write writes entries of a yaml prompt file, which Parse reads as they are, lines aside. Every value takes a line. Entries that are written one after the
// other make one file.
func Write(w io.Writer, jobs ...Job) error {
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, j := range jobs {
		entry, at := &yaml.Node{Kind: yaml.MappingNode}, map[string]*yaml.Node{}
		for _, v := range j.Values {
			if old := at[v.Name]; old != nil { // one more of a list
				if old.Kind != yaml.SequenceNode {
					only := *old
					*old = yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{&only}}
				}
				old.Content = append(old.Content, node(text, v.Text))
				continue
			}
			want, ok := kinds()[v.Name]
			if !ok {
				return fmt.Errorf("prompt file: unknown setting %.60q", v.Name)
			}
			value := node(want, v.Text)
			if want == texts && v.Text == "" {
				value = &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
			}
			at[v.Name] = value
			entry.Content = append(entry.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: v.Name}, value)
		}
		list.Content = append(list.Content, entry)
	}
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(list); err != nil {
		return fmt.Errorf("prompt file: %w", err)
	}
	_, err := w.Write(out.Bytes())
	return err
}

// node is a value of a kind. Texts are in quotes, so that each takes one line.
func node(want kind, value string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Value: value}
	if want == text || want == texts {
		n.Tag, n.Style = "!!str", yaml.DoubleQuotedStyle
	}
	return n
}
