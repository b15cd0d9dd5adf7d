package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/internal/promptfile"
)

// wantWholeRuns checks that the pictures of seeds, NAME-seedN.png, are those of a run in one go. That a clip among many is
// that of a run of its own is another test's.
func wantWholeRuns(t *testing.T, name, steps string, seeds ...string) {
	t.Helper()
	whole := filepath.Join(t.TempDir(), "whole")
	startOK(t, drawn("--prompt", "Snow.", "--sample-steps", steps, "--seeds", strings.Join(seeds, ","), "-o", whole+".png")...)
	for _, seed := range seeds {
		if !bytes.Equal(read(t, name+"-seed"+seed+".png"), read(t, whole+"-seed"+seed+".png")) {
			t.Errorf("seed %s is another picture than that of a run in one go", seed)
		}
		if a, b := readReceipt(t, name+"-seed"+seed+".json"), readReceipt(t, whole+"-seed"+seed+".json"); !reflect.DeepEqual(a.Digests, b.Digests) {
			t.Errorf("seed %s has the digests %+v, want %+v", seed, a.Digests, b.Digests)
		}
	}
}

// TestDraftsAreFinishedToTheBytesOfWholeRuns draws three seeds and finishes one, another one by its state alone, and none of
// the third.
func TestDraftsAreFinishedToTheBytesOfWholeRuns(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	drafting := []string{"--prompt", "Snow.", "--sample-steps", "5", "--seeds", "4..6", "-o", at("snow.png"), "--draft-steps"}
	start(t, drawn(append(drafting, "5")...)...).wantLine(t, exitBadInput, "--draft-steps 5", "use 1 to 4")
	start(t, drawn(append(drafting, "2", "--on-interrupt", "decode")...)...).wantLine(t, exitBadInput, "--on-interrupt decode")
	wantOnly(t, dir)
	var made draftsMade
	parseJSON(t, startOK(t, drawn(append(drafting, "2", "--json", "--preview", "--validate")...)...).stdout, &made)
	want := draftsMade{Batch: at("snow.png.batch"), ContactSheet: at("snow-drafts.png"), Steps: 2}
	for _, seed := range []uint64{4, 5, 6} {
		name := at(fmt.Sprintf("snow-seed%d.png", seed))
		want.Drafts = append(want.Drafts, draft{seed, fmt.Sprintf("seed %d", seed), name, name + ".state"})
	}
	if !reflect.DeepEqual(made, want) {
		t.Errorf("made %+v, want %+v", made, want)
	}
	if sheet, err := media.LoadImage(made.ContactSheet); err != nil || sheet.Height < 3*32 {
		t.Errorf("the sheet: %v", err)
	}
	wantOnly(t, dir, "snow-drafts.png", "snow-seed4.png.state", "snow-seed4.preview.gif", "snow-seed5.png.state", "snow-seed5.preview.gif", "snow-seed6.png.state", "snow-seed6.preview.gif", "snow.png.batch")
	for _, c := range [][]string{
		{"--continue 4,5,6", "--resume", made.Batch},
		{"no such draft, but 4,5,6", "--resume", made.Batch, "--continue", "5,9"},
		{"--continue \"5..\"", "--resume", made.Batch, "--continue", "5.."},
		{"--sample-steps 6 contradicts", "--resume", made.Batch, "--continue", "5", "--sample-steps", "6"},
		{"keep their names", "--resume", made.Batch, "--continue", "5", "-o", at("other.png")},
		{"continues one clip", "--resume", made.Drafts[0].State, "--continue", "5"},
		{"other.png.batch", "--continue", "5", "-o", at("other.png")},
	} {
		start(t, append([]string{"generate"}, c[1:]...)...).wantLine(t, exitBadInput, c[0])
	}
	t.Chdir(t.TempDir()) // all that is needed is in the batch
	o := startOK(t, "generate", "--continue", "5", "-o", at("snow.png"), "--blocks-in-memory", "1", "--json=false", "--preview=0")
	if o.stdout != at("snow-seed5.png")+"\n" || !strings.Contains(o.stderr, "--continue none") {
		t.Errorf("standard output has %q, standard error\n%s", o.stdout, o.stderr)
	}
	startOK(t, "generate", "--resume", made.Drafts[2].State, "--preview=0") // by its state alone
	wantWholeRuns(t, at("snow"), "5", "5", "6")
	start(t, "generate", "--resume", made.Batch, "--continue", "6").wantLine(t, exitBadInput, "seed 6", "is gone")
	startOK(t, "generate", "--resume", made.Batch, "--continue", "none")
	for _, name := range []string{"snow.png.batch", "snow-seed4.png.state"} {
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
	list := writeFile(t, at("list.yaml"), "- A fox runs.\n- prompt: Snow.\n  seed: 7\n- prompt: A bird.\n  sample_steps: 4\n")
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
	kill("x-001.png.state", args)
	writeFile(t, list, "- another\n") // the batch has what it was
	kill("x-002.png.state", again())
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
	for _, ext := range []string{".png", ".json"} {
		if err := os.Rename(at("x-002"+ext), at("x-seed7"+ext)); err != nil {
			t.Fatal(err)
		}
	}
	wantWholeRuns(t, at("x"), "5", "7")
	wantOnly(t, dir, "list.yaml", "x-001.json", "x-001.png", "x-003.json", "x-003.png", "x-drafts.png", "x-seed7.json", "x-seed7.png")
}

func TestCtrlCInABatchAndTheCommandThatIsToldContinues(t *testing.T) {
	skipWithoutSignals(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	args := drawn("--prompt", "Snow.", "--seeds", "1..3", "--sample-steps", "6", "--checkpoint-every", "1", "-o", at("two words.png"), "-v", "--validate")
	p := launch(t, "words-seed2.png.state", args...)
	p.await(t)
	p.interrupt(t)
	o := p.end()
	o.wantLine(t, exitInterrupted, "1 of 3 clips are made, one stands at step ", "of 6; to go on: vkandinsky generate --resume '"+at("two words.png.batch")+"'")
	if o.stdout != at("two words-seed1.png")+"\n" {
		t.Errorf("standard output has %q", o.stdout)
	}
	wantOnly(t, dir, "two words-seed1.json", "two words-seed1.png", "two words-seed2.png.state", "two words-seeds.png", "two words.png.batch")
	was, err := os.Stat(at("two words-seed1.png"))
	if err != nil {
		t.Fatal(err)
	}
	// Continued, it loses the device in two clips, each at its third step: they are different places.
	o = startOK(t, "generate", "--resume", at("two words.png.batch"), "--fault", "step=6,step=3", "--json")
	if n := strings.Count(o.stderr, "the device was lost"); n != 2 {
		t.Errorf("the device was lost %d times:\n%s", n, o.stderr)
	}
	var made []generated
	if parseJSON(t, o.stdout, &made); len(made) != 2 || made[0].Settings.Seed != 2 || made[1].Settings.Seed != 3 || made[0].Stats.StepsMade > 5 {
		t.Errorf("made %+v", made)
	}
	if now, err := os.Stat(at("two words-seed1.png")); err != nil || !now.ModTime().Equal(was.ModTime()) {
		t.Errorf("a clip that was there is made again (%v)", err)
	}
	wantWholeRuns(t, at("two words"), "6", "2", "3")
	if sheet, err := media.LoadImage(at("two words-seeds.png")); err != nil || sheet.Height%3 != 0 {
		t.Errorf("the sheet has not three rows: %v", err)
	}
	wantOnly(t, dir, "two words-seed1.json", "two words-seed1.png", "two words-seed2.json", "two words-seed2.png", "two words-seed3.json", "two words-seed3.png", "two words-seeds.png")
}

func TestOtherEndsOfABatch(t *testing.T) {
	skipWithoutSignals(t)
	for _, c := range []struct {
		do, wantLine string
		want         []string
	}{
		{interruptDecode, "is the clip as step ", []string{"x-seed1.png", "x.png.batch"}},
		{interruptDiscard, "interrupted", nil},
	} {
		dir := t.TempDir()
		p := launch(t, "denoise ...", drawn("--prompt", "Snow.", "--seeds", "1,2", "--sample-steps", "30", "--on-interrupt", c.do, "-o", filepath.Join(dir, "x.png"))...)
		p.await(t)
		p.interrupt(t)
		p.end().wantLine(t, exitInterrupted, c.wantLine)
		wantOnly(t, dir, c.want...)
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
