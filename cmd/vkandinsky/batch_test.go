package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/internal/promptfile"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

// snow makes pictures of seeds that these tests have in common.
func snow(more ...string) []string {
	return drawn(append([]string{"--prompt", "Snow.", "--sample-steps", "5"}, more...)...)
}

// wholeSnow is where the pictures of seeds 1 to 3 lie, made in one go. That a clip among many is that of a run of its own is
// another test's.
var wholeSnow = sync.OnceValues(func() (string, error) {
	base := filepath.Join(filepath.Dir(program), "snow")
	cmd := exec.Command(program, snow("--seeds", "1..3", "-o", base+".png")...)
	cmd.Env = environment()
	text, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return base, err
})

// wantSnow checks that a clip, with its receipt, is that of a seed in a run in one go.
func wantSnow(t *testing.T, path, seed string) {
	t.Helper()
	whole, err := wholeSnow()
	if err != nil {
		t.Fatal(err)
	}
	whole += "-seed" + seed + ".png"
	if !bytes.Equal(read(t, path), read(t, whole)) {
		t.Errorf("%s is another picture than that of a run in one go", path)
	}
	if a, b := readReceipt(t, receiptOf(path)), readReceipt(t, receiptOf(whole)); !reflect.DeepEqual(a.Digests, b.Digests) {
		t.Errorf("%s has the digests %+v, want %+v", path, a.Digests, b.Digests)
	}
}

// TestDraftsAreFinishedToTheBytesOfWholeRuns draws three seeds and finishes one, another one by its state alone, and none of
// the third.
func TestDraftsAreFinishedToTheBytesOfWholeRuns(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	drafting := []string{"--seeds", "1..3", "-o", at("snow.png"), "--draft-steps"}
	start(t, snow(append(drafting, "5")...)...).wantLine(t, exitBadInput, "--draft-steps 5", "use 1 to 4")
	start(t, snow(append(drafting, "2", "--on-interrupt", "decode")...)...).wantLine(t, exitBadInput, "--on-interrupt decode")
	wantOnly(t, dir)
	var made draftsMade
	drafts := startOK(t, snow(append(drafting, "2", "--json", "--preview")...)...)
	parseJSON(t, drafts.stdout, &made)
	if strings.Contains(drafts.stderr, "steps take") && !strings.Contains(drafts.stderr, "2 of 5 steps take") {
		t.Errorf("not the steps of a draft are predicted:\n%s", drafts.stderr)
	}
	want := draftsMade{Batch: at("snow.png.batch"), ContactSheet: at("snow-drafts.png"), Steps: 2}
	for _, seed := range []uint64{1, 2, 3} {
		name := at(fmt.Sprintf("snow-seed%d.png", seed))
		want.Drafts = append(want.Drafts, draft{seed, fmt.Sprintf("seed %d", seed), name, name + ".state"})
	}
	if !reflect.DeepEqual(made, want) {
		t.Errorf("made %+v, want %+v", made, want)
	}
	if sheet, err := media.LoadImage(made.ContactSheet); err != nil || sheet.Height < 3*32 {
		t.Errorf("the sheet: %v", err)
	}
	wantOnly(t, dir, "snow-drafts.png", "snow-seed1.png.state", "snow-seed1.preview.gif", "snow-seed2.png.state", "snow-seed2.preview.gif", "snow-seed3.png.state", "snow-seed3.preview.gif", "snow.png.batch")
	for _, c := range [][]string{
		{"--continue 1,2,3", "--resume", made.Batch},
		{"no such draft, but 1,2,3", "--resume", made.Batch, "--continue", "2,9"},
		{"--continue \"5..\"", "--resume", made.Batch, "--continue", "5.."},
		{"--sample-steps 6 contradicts", "--resume", made.Batch, "--continue", "2", "--sample-steps", "6"},
		{"keep their names", "--resume", made.Batch, "--continue", "2", "-o", at("other.png")},
		{"continues one clip", "--resume", made.Drafts[0].State, "--continue", "2"},
		{"other.png.batch", "--continue", "5", "-o", at("other.png")},
	} {
		if status, _, stderr := invoke(t, append([]string{"generate"}, c[1:]...)...); status != exitBadInput || !strings.Contains(stderr, c[0]) {
			t.Errorf("%v: status %d, %q", c, status, stderr)
		}
	}
	t.Chdir(t.TempDir()) // all that is needed is in the batch
	o := startOK(t, "generate", "--continue", "2", "-o", at("snow.png"), "--blocks-in-memory", "1", "--json=false", "--preview=0")
	if o.stdout != at("snow-seed2.png")+"\n" || !strings.Contains(o.stderr, "--continue none") {
		t.Errorf("standard output has %q, standard error\n%s", o.stdout, o.stderr)
	}
	startOK(t, "generate", "--resume", made.Drafts[2].State, "--preview=0") // by its state alone
	wantSnow(t, at("snow-seed2.png"), "2")
	wantSnow(t, at("snow-seed3.png"), "3")
	start(t, "generate", "--resume", made.Batch, "--continue", "3").wantLine(t, exitBadInput, "seed 3", "is gone")
	startOK(t, "generate", "--resume", made.Batch, "--continue", "none")
	for _, name := range []string{"snow.png.batch", "snow-seed1.png.state"} {
		if _, err := os.Stat(at(name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
}

// TestAKilledBatchIsContinued kills the program while it makes drafts of a prompt file, at moments that follow from a
// seed, and then while it finishes all of them.
func TestAKilledBatchIsContinued(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	list := writeFile(t, at("list.yaml"), "- A fox runs.\n- prompt: Snow.\n  seed: 2\n- prompt: A bird.\n  sample_steps: 4\n")
	args := drawn("--prompt-file", list, "--sample-steps", "5", "--draft-steps", "2", "--checkpoint-every", "1", "-o", at("x.png"), "-v")
	random := rand.New(rand.NewPCG(5, 1))
	kill := func(word string, args []string) {
		p := launch(t, word, args...)
		over := make(chan struct{})
		go func() { p.Wait(); close(over) }()
		select {
		case <-p.stderr.seen:
			time.Sleep(time.Duration(random.Int64N(int64(50 * time.Millisecond))))
			p.Process.Kill()
		case <-over: // it had been killed later than thought
		}
		<-over
	}
	again := func(more ...string) []string {
		return append([]string{"generate", "--resume", at("x.png.batch"), "-v"}, more...)
	}
	kill("x-002.png.state", args)
	writeFile(t, list, "- another\n") // the batch has what it was
	if o := start(t, again()...); o.status != 0 && !strings.Contains(o.stderr, "all drafts are made") {
		t.Fatalf("status %d\n%s", o.status, o.stderr)
	}
	if b, err := readBatch(at("x.png.batch")); err != nil || b.count(clipDrafted) != 3 {
		t.Fatalf("%+v, %v", b, err)
	}
	sheet, err := media.LoadImage(at("x-drafts.png"))
	if err != nil || sheet.Height%3 != 0 {
		t.Errorf("the sheet has not three rows: %v", err)
	}
	kill("x-002.png.state", again("--continue", "all"))
	if _, err := os.Stat(at("x.png.batch")); err == nil {
		startOK(t, again("--continue", "all")...)
	}
	wantSnow(t, at("x-002.png"), "2")
	wantOnly(t, dir, "list.yaml", "x-001.json", "x-001.png", "x-002.json", "x-002.png", "x-003.json", "x-003.png", "x-drafts.png")
}

func TestCtrlCInABatchAndTheCommandThatIsToldContinues(t *testing.T) {
	skipWithoutSignals(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	args := snow("--seeds", "1..3", "--checkpoint-every", "1", "-o", at("two words.png"), "-v", "--validate")
	p := launch(t, "words-seed2.png.state", args...)
	p.await(t)
	p.interrupt(t)
	o := p.end()
	o.wantLine(t, exitInterrupted, "1 of 3 clips are made, one stands at step ", "of 5; to go on: vkandinsky generate --resume '"+at("two words.png.batch")+"'")
	if o.stdout != at("two words-seed1.png")+"\n" {
		t.Errorf("standard output has %q", o.stdout)
	}
	wantOnly(t, dir, "two words-seed1.json", "two words-seed1.png", "two words-seed2.png.state", "two words-seeds.png", "two words.png.batch")
	was, err := os.Stat(at("two words-seed1.png"))
	if err != nil {
		t.Fatal(err)
	}
	// Continued, it loses the device in two clips, each at its third step: they are different places.
	o = startOK(t, "generate", "--resume", at("two words.png.batch"), "--fault", "step=5,step=3", "--json")
	if n := strings.Count(o.stderr, "the device was lost"); n != 2 {
		t.Errorf("the device was lost %d times:\n%s", n, o.stderr)
	}
	var made []generated
	if parseJSON(t, o.stdout, &made); len(made) != 2 || made[0].Settings.Seed != 2 || made[1].Settings.Seed != 3 || made[0].Stats.StepsMade > 4 {
		t.Errorf("made %+v", made)
	}
	if now, err := os.Stat(at("two words-seed1.png")); err != nil || !now.ModTime().Equal(was.ModTime()) {
		t.Errorf("a clip that was there is made again (%v)", err)
	}
	wantSnow(t, at("two words-seed2.png"), "2")
	wantSnow(t, at("two words-seed3.png"), "3")
	if sheet, err := media.LoadImage(at("two words-seeds.png")); err != nil || sheet.Height%3 != 0 {
		t.Errorf("the sheet has not three rows: %v", err)
	}
	wantOnly(t, dir, "two words-seed1.json", "two words-seed1.png", "two words-seed2.json", "two words-seed2.png", "two words-seed3.json", "two words-seed3.png", "two words-seeds.png")
}

func TestDecodingOnCtrlCEndsABatch(t *testing.T) {
	skipWithoutSignals(t)
	dir := t.TempDir()
	output := filepath.Join(dir, "x-seed1.png")
	p := launch(t, "denoise ...", snow("--seeds", "1,2", "--sample-steps", "30", "--on-interrupt", "decode", "-o", filepath.Join(dir, "x.png"))...)
	p.await(t)
	p.interrupt(t)
	o := p.end()
	o.wantLine(t, exitInterrupted, "0 of 2 clips are made; "+output+" is the clip as step ", "of 30 predicts it; to go on: ")
	if o.stdout != output+"\n" {
		t.Errorf("standard output has %q", o.stdout)
	}
	wantOnly(t, dir, "x-seed1.png", "x.png.batch")
}

// TestWhatIsLeftOfABatchThatFails asks with clips and states, and without.
func TestWhatIsLeftOfABatchThatFails(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	broken := errors.New("broken")
	for _, c := range []struct {
		name      string
		do        string
		err       error
		made      bool // a clip
		newest    *kandinsky5.State
		want      string
		batchGone bool
	}{
		{"interrupted before the first step", interruptSave, context.Canceled, false, nil, "canceled", true},
		{"interrupted after a clip", interruptSave, context.Canceled, true, nil, "interrupted; 1 of 2 clips are made; to go on: vkandinsky generate --resume ", false},
		{"discarded", interruptDiscard, context.Canceled, false, &kandinsky5.State{Step: 3}, "canceled", true},
		{"discarded after a clip", interruptDiscard, context.Canceled, true, &kandinsky5.State{Step: 3}, "1 of 2 clips are made; to go on", false},
		{"failed before the first step", interruptSave, broken, false, nil, "broken", true},
		{"failed after a clip", interruptSave, broken, true, nil, "broken; 1 of 2 clips are made; to go on: ", false},
	} {
		m := &many{batch: soundBatch(), path: filepath.Join(t.TempDir(), "x.batch"), progress: c.made}
		if !c.made {
			m.batch.Clips[0].Status = clipOpen
		}
		if err := m.record(); err != nil {
			t.Fatal(err)
		}
		m.keeper = &keeper{flags: keepFlags{onInterrupt: c.do}, log: slog.New(slog.DiscardHandler), saved: -1, from: -1, newest: c.newest}
		if err := m.failed(ctx, c.err); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "--resume") == c.batchGone {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, err := os.Stat(m.path); (err != nil) != c.batchGone {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// soundBatch is one of no particular run.
func soundBatch() *batch {
	root, err := filepath.Abs("/")
	if err != nil {
		panic(err)
	}
	return &batch{Version: batchVersion, ID: "ID", Flags: [][2]string{{"prompt", "a"}, {"seeds", "1,2"}}, Folder: root,
		Clips: []batchClip{{Where: "seed 1", Suffix: "seed1", Number: 1, Values: []promptfile.Value{{Name: "seed", Text: "1"}}, Output: root + "x-seed1.png", Status: clipDone},
			{Where: "seed 2", Suffix: "seed2", Number: 2, Output: root + "x-seed2.png"}},
		Sheet: batchSheet{File: root + "x.png", Height: 9}}
}

func TestBatchesThatAreRefused(t *testing.T) {
	text := func(b *batch) string {
		out, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	sound := text(soundBatch())
	if b, err := parseBatch([]byte(sound)); err != nil || text(b) != sound {
		t.Fatalf("a sound one: %v", err)
	}
	damaged := func(damage func(*batch)) string {
		b := soundBatch()
		damage(b)
		return text(b)
	}
	for want, data := range map[string]string{
		"unexpected end":  sound[:len(sound)/2],
		"version 9":       damaged(func(b *batch) { b.Version = 9 }),
		"version 0":       "{}",
		"unknown field":   strings.Replace(sound, `"folder"`, `"folders"`, 1),
		"0 clips":         damaged(func(b *batch) { b.Clips = nil }),
		"the id":          damaged(func(b *batch) { b.ID = "" }),
		"there twice":     damaged(func(b *batch) { b.Clips[1].Number = 1 }),
		`"lost"`:          damaged(func(b *batch) { b.Clips[1].Status = "lost" }),
		"clip 2 is to be": damaged(func(b *batch) { b.Clips[1].Output = "x.png" }),
		"files that end":  damaged(func(b *batch) { b.Clips[1].Suffix = "../../x" }),
		"contact sheet":   damaged(func(b *batch) { b.Sheet.File = "/etc/passwd" }),
		"-1 rows":         damaged(func(b *batch) { b.Drafts.Height = -1 }),
		`"cache_dir"`:     damaged(func(b *batch) { b.Clips[1].Values = []promptfile.Value{{Name: "cache_dir", Text: "/"}} }),
	} {
		if _, err := parseBatch([]byte(data)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is wanted, got %v", want, err)
		}
	}
	path := writeFile(t, filepath.Join(t.TempDir(), "x.batch"), damaged(func(b *batch) { b.Flags = [][2]string{{"fault", "submit=1"}} }))
	for want, args := range map[string][]string{"--fault": {"--resume", path}, "has no drafts": {"--resume", path, "--continue", "1"}, "none.batch": {"--resume", "none.batch"}, "of which": {"--draft-steps", "3"}} {
		if want == "has no drafts" {
			writeFile(t, path, sound)
		}
		if status, _, stderr := invoke(t, append([]string{"generate"}, args...)...); status != exitBadInput || !strings.Contains(stderr, want) {
			t.Errorf("%v: status %d, %q", args, status, stderr)
		}
		writeFile(t, path, damaged(func(b *batch) { b.Flags = [][2]string{{"fault", "submit=1"}} }))
	}
}

func FuzzBatch(f *testing.F) {
	text, err := json.Marshal(soundBatch())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := parseBatch(data)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("more than one line: %q", err)
			}
			return
		}
		again, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := parseBatch(again); err != nil || !reflect.DeepEqual(b, c) {
			t.Errorf("%s becomes %+v, %v", again, c, err)
		}
	})
}
