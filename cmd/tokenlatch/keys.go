package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
	"github.com/tokenlatch/tokenlatch/tokencache/seal"
)

func newKeys(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "keys COMMAND", Short: "the keyset that seals the pairs: make, rotate, reseal, retire",
		Long: `A keyset has one primary key, which seals, and others, which open. To change the
key, one step after the other, each rolled out to all workers before the next:

  1. prepare   adds a key that opens, and does not seal yet
  2. rotate    makes it the primary
  3. reseal    seals anew what the old key has sealed
  4. retire    takes the old key out, once status counts nothing of it

Each writes a new file, and leaves the old one as it is. Keep retired keysets
as long as you keep backups of Redis: what is in those was sealed with them.`,
		Example: `tokenlatch keys generate --out keyset.json
tokenlatch keys status`,
		Annotations: map[string]string{cli.Globals: ""},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.Usage(fmt.Errorf("there is no command keys %q", args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKeysGenerate(g), newKeysChange(g, "prepare", "add a key that opens, and does not seal yet", seal.Prepare),
		newKeysChange(g, "rotate", "make the prepared key the primary, which seals", seal.Rotate),
		newKeysStatus(g), newKeysReseal(g), newKeysRetire(g))
	return cmd
}

// writing is where a keyset is written to.
type writing struct {
	*globals
	out string
}

func (w *writing) flag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.out, "out", "", "`FILE` to write to, mode 0600; it must not exist. Default: stdout, unless that is a terminal")
}

// check refuses a terminal, and a file that exists.
func (w *writing) check() error {
	if w.out == "" {
		if term.IsTerminal(w.stdout) {
			return &cli.Error{Exit: cli.ExitUsage, Code: "terminal", Err: errors.New("a keyset is not printed to a terminal, where it stays to be read"), Hint: "--out keyset.json writes it to a file"}
		}
		return nil
	}
	if _, err := os.Lstat(w.out); !errors.Is(err, fs.ErrNotExist) {
		return &cli.Error{Exit: cli.ExitFailed, Code: "exists", Err: fmt.Errorf("%s exists: a keyset is never written over", w.out), Hint: "--out another name"}
	}
	return nil
}

// write writes a keyset whole, or not at all.
func (w *writing) write(keyset []byte) error {
	keyset = append(keyset, '\n')
	if w.out == "" {
		return w.text(string(keyset))
	}
	f, err := os.OpenFile(w.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(keyset)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(w.out))
	}
	return nil
}

// keyLine is a key of a keyset in JSON: docs/json/keys.schema.json.
type keyLine struct {
	ID   uint32 `json:"key_id"`
	Role string `json:"role"`
}

// wrote says what keys the keyset has that was written.
func (w *writing) wrote(keyset []byte) error {
	keys, err := seal.Keys(keyset)
	if err != nil {
		return err
	}
	if w.out != "" && w.asJSON() {
		o := w.items(w.stdout)
		for _, k := range keys {
			if err := o.add(keyLine{k.ID, roleOf(k)}); err != nil {
				return err
			}
		}
		return o.end(nil)
	}
	for _, k := range keys {
		w.talk("key %d: %s", k.ID, roleOf(k))
	}
	return nil
}

// The roles of a key.
const (
	rolePrimary  = "primary"  // seals, and opens
	roleOpens    = "opens"    // opens
	roleDisabled = "disabled" // neither
	roleMissing  = "missing"  // the keyset does not have it
	roleUnknown  = "unknown"  // no keyset is given
	rolePlain    = "no_key"   // not sealed with a key that has an id
)

func roleOf(k seal.Key) string {
	switch {
	case k.Primary:
		return rolePrimary
	case k.Enabled:
		return roleOpens
	}
	return roleDisabled
}

func newKeysGenerate(g *globals) *cobra.Command {
	w := &writing{globals: g}
	cmd := &cobra.Command{
		Use: "generate [flags]", Short: "make a new keyset",
		Long: `Make a keyset with one AES256-GCM key. Do it once for each deployment: what
another keyset has sealed does not open with it. Whoever has it and can read
Redis has the tokens of all tenants. Back it up: without it every tenant must
consent again.`,
		Example:     "tokenlatch keys generate --out keyset.json",
		Annotations: map[string]string{cli.Globals: "json jsonl"},
		Args:        named(),
		RunE: func(*cobra.Command, []string) error {
			if err := w.check(); err != nil {
				return err
			}
			keyset, err := seal.Generate()
			if err == nil {
				err = w.write(keyset)
			}
			if err != nil {
				return err
			}
			return w.wrote(keyset)
		},
	}
	w.flag(cmd)
	return cmd
}

// newKeysChange is a command that makes a keyset of the one that is configured.
func newKeysChange(g *globals, name, short string, change func([]byte) ([]byte, error)) *cobra.Command {
	w, config := &writing{globals: g}, ""
	cmd := &cobra.Command{
		Use: name + " [flags]", Short: short,
		Long: "Read the configured keyset, and write the next one:\n" + short + `.

Roll it out to all workers before the next step: see tokenlatch keys -h.`,
		Example:     "tokenlatch keys " + name + " --out keyset-2.json",
		Annotations: map[string]string{cli.Globals: "json jsonl"},
		Args:        named(),
		RunE: func(*cobra.Command, []string) error {
			keyset, err := configuredKeyset(config)
			if err == nil {
				err = w.check()
			}
			if err != nil {
				return err
			}
			next, err := change(keyset)
			if err != nil {
				return &cli.Error{Exit: cli.ExitFailed, Code: "keyset", Err: err, Hint: "tokenlatch keys -h has the steps"}
			}
			if err := w.write(next); err != nil {
				return err
			}
			return w.wrote(next)
		},
	}
	addConfig(cmd, &config)
	w.flag(cmd)
	return cmd
}

func configuredKeyset(config string) ([]byte, error) {
	file, err := readConfig(config)
	if err != nil {
		return nil, err
	}
	keyset, err := file.Keyset()
	if err != nil {
		return nil, badConfig(err)
	}
	return keyset, nil
}

// retiring are the flags of keys retire.
type retiring struct {
	writing
	config string
}

func newKeysRetire(g *globals) *cobra.Command {
	r := &retiring{writing: writing{globals: g}}
	cmd := &cobra.Command{
		Use: "retire KEY_ID [flags]", Short: "take a key out of the keyset, if nothing is sealed with it",
		Long: `Look at each sealed value below the prefix, and write the keyset without the
key. It refuses while the key still opens something.

What it cannot know: whether a worker still seals with that key (roll the
rotated keyset out first), whether another prefix or Redis uses it, and what is
in backups. So keep the old keyset.`,
		Example: "tokenlatch keys retire 2025437711 --out keyset-3.json",
		Args:    named("KEY_ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseUint(args[0], 10, 32)
			if err != nil {
				return cli.Usage(errors.New("KEY_ID: a number as tokenlatch keys status lists it"))
			}
			return r.retire(cmd, uint32(id))
		},
	}
	addConfig(cmd, &r.config)
	r.flag(cmd)
	return cmd
}

func (r *retiring) retire(cmd *cobra.Command, id uint32) error {
	keyset, err := configuredKeyset(r.config)
	if err == nil {
		err = r.check()
	}
	if err != nil {
		return err
	}
	next, err := seal.Retire(keyset, id)
	if err != nil {
		return &cli.Error{Exit: cli.ExitFailed, Code: "keyset", Err: err, Hint: "tokenlatch keys status lists the keys"}
	}
	s, err := r.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	counted, err := r.census(cmd.Context(), s, "")
	if err != nil {
		return r.failed(s, err)
	}
	if c := counted[sealer{id: id}]; c != nil {
		return &cli.Error{
			Exit: cli.ExitFailed, Code: "key_in_use", Err: fmt.Errorf("key %d still opens %s: without it they are lost", id, c.words()),
			Hint: "tokenlatch keys reseal",
		}
	}
	if err := r.write(next); err != nil {
		return err
	}
	return r.wrote(next)
}
