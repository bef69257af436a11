package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/settings"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/seal"
)

func newKeysStatus(g *globals) *cobra.Command {
	config := ""
	cmd := &cobra.Command{
		Use: "status [APP] [flags]", Short: "count what each key has sealed",
		Long: `Count the sealed values by the key that sealed them: pairs of grants, spare
pairs, and answers that could not be read. It reads the first bytes of each,
opens nothing, and needs the keyset only to tell the keys' roles: primary
(seals), opens, disabled, or missing, which nobody with this keyset can open.`,
		Example: `tokenlatch keys status
tokenlatch keys status --json | jq '.[] | select(.role == "missing")'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return cli.Usage(fmt.Errorf("takes one APP, got %q too", args[1]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return g.keysStatus(cmd, config, args) },
	}
	addConfig(cmd, &config)
	return cmd
}

func (g *globals) keysStatus(cmd *cobra.Command, config string, args []string) error {
	app := ""
	if len(args) == 1 {
		if app = args[0]; (grant.Key{App: app, Tenant: "-"}).Validate() != nil {
			return cli.Usage(fmt.Errorf("APP %q cannot be an app's name", app))
		}
	}
	roles, err := rolesOf(config)
	if err != nil {
		return err
	}
	s, err := g.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	counted, err := g.census(cmd.Context(), s, app)
	if err != nil {
		return g.failed(s, err)
	}
	return g.showKeys(tally(counted, roles))
}

// rolesOf are the keys of the configured keyset; nil where none is configured.
func rolesOf(config string) (map[uint32]string, error) {
	if config == "" && !settings.Configured() {
		return nil, nil
	}
	keyset, err := configuredKeyset(config)
	if err != nil {
		return nil, err
	}
	keys, err := seal.Keys(keyset)
	if err != nil {
		return nil, badConfig(err)
	}
	roles := map[uint32]string{}
	for _, k := range keys {
		roles[k.ID] = roleOf(k)
	}
	return roles, nil
}

// sealer is what has sealed a value: a key of that id, or none that can be told.
type sealer struct {
	id    uint32
	plain bool
}

func sealerOf(sealed []byte) sealer {
	id, ok := grant.KeyIDOf(sealed)
	return sealer{id, !ok}
}

// sealedBy counts what a key has sealed, in JSON: docs/json/keys-status.schema.json.
type sealedBy struct {
	ID     uint32 `json:"key_id,omitempty"`
	Role   string `json:"role"`
	Pairs  int64  `json:"pairs"`
	Spares int64  `json:"spares"`
	Unread int64  `json:"unread_answers"`
}

func (s *sealedBy) words() string {
	text := oncall.Count(s.Pairs) + " pairs"
	if s.Spares > 0 {
		text += ", " + oncall.Count(s.Spares) + " spare pairs"
	}
	if s.Unread > 0 {
		text += ", " + oncall.Count(s.Unread) + " unread answers"
	}
	return text
}

// sealedHead is how much of a sealed value tells its key, in bytes.
const sealedHead = 32

// census counts the sealed values of an app, or of all apps.
func (g *globals) census(ctx context.Context, s *session, app string) (map[sealer]*sealedBy, error) {
	counted, p := map[sealer]*sealedBy{}, g.progress()
	defer p.end()
	var page []grant.Key
	seen, first := int64(0), error(nil)
	for row, err := range s.List(ctx, app) {
		if err != nil {
			first = cmp.Or(first, err)
			continue
		}
		seen++
		p.tick(seen)
		if page = append(page, row.Key); len(page) == exportPage {
			if err := g.countPage(ctx, s, page, counted); err != nil {
				return nil, err
			}
			page = page[:0]
		}
	}
	return counted, cmp.Or(first, g.countPage(ctx, s, page, counted))
}

func (g *globals) countPage(ctx context.Context, s *session, page []grant.Key, counted map[sealer]*sealedBy) error {
	pairs, spares, unread := make([]*redis.StringCmd, len(page)), make([]*redis.StringCmd, len(page)), make([]*redis.StringSliceCmd, len(page))
	commands, _ := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, k := range page {
			pairs[i] = p.GetRange(ctx, keyOf(g.prefix, k, "secret"), 0, sealedHead-1)
			spares[i] = p.GetRange(ctx, keyOf(g.prefix, k, "spare"), 0, sealedHead-1)
			unread[i] = p.LRange(ctx, keyOf(g.prefix, k, "unread"), 0, -1)
		}
		return nil
	})
	if err := unanswered(commands); err != nil {
		return err
	}
	of := func(sealed []byte) *sealedBy {
		by := sealerOf(sealed)
		if counted[by] == nil {
			counted[by] = &sealedBy{ID: by.id}
		}
		return counted[by]
	}
	for i := range page {
		if head, _ := pairs[i].Bytes(); len(head) > 0 {
			of(head).Pairs++
		}
		if head, _ := spares[i].Bytes(); len(head) > 0 {
			of(head).Spares++
		}
		for _, one := range unread[i].Val() {
			_, sealed, _ := bytes.Cut([]byte(one), []byte{'\n'})
			of(sealed).Unread++
		}
	}
	return nil
}

// tally puts counts and roles together: the primary first.
func tally(counted map[sealer]*sealedBy, roles map[uint32]string) []*sealedBy {
	for by, c := range counted {
		switch role, known := roles[by.id]; {
		case by.plain:
			c.Role = rolePlain
		case known:
			c.Role = role
		case roles == nil:
			c.Role = roleUnknown
		default:
			c.Role = roleMissing
		}
	}
	for id, role := range roles {
		if counted[sealer{id: id}] == nil {
			counted[sealer{id: id}] = &sealedBy{ID: id, Role: role}
		}
	}
	order := []string{rolePrimary, roleOpens, roleDisabled, roleUnknown, roleMissing, rolePlain}
	return slices.SortedFunc(maps.Values(counted), func(a, b *sealedBy) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Role), slices.Index(order, b.Role)), cmp.Compare(a.ID, b.ID))
	})
}

func (g *globals) showKeys(keys []*sealedBy) error {
	o := g.items(g.stdout)
	t := g.table(o, 1, "KEY", "ROLE", "PAIRS", "SPARES", "UNREAD")
	stale, missing := false, false
	for _, k := range keys {
		stale = stale || k.Role == roleOpens && k.Pairs+k.Spares+k.Unread > 0
		missing = missing || k.Role == roleMissing
		var err error
		if g.asJSON() {
			err = o.add(k)
		} else {
			err = t.Add(keyRow(k))
		}
		if err != nil {
			return err
		}
	}
	if g.asJSON() {
		return o.end(nil)
	}
	if err := cmp.Or(t.Begin(), o.w.Flush()); err != nil {
		return err
	}
	switch {
	case len(keys) == 0:
		g.talk("nothing is sealed there. Another --prefix?")
	case missing:
		g.talk("what a missing key has sealed does not open with this keyset: find the keyset that has it")
	case stale:
		g.talk("`tokenlatch keys reseal` seals anew what is not sealed with the primary")
	}
	return nil
}

func keyRow(k *sealedBy) term.Line {
	id, tone := strconv.FormatUint(uint64(k.ID), 10), cli.Plain
	switch k.Role {
	case rolePlain:
		id, tone = "-", cli.Alarm
	case roleMissing:
		tone = cli.Alarm
	case rolePrimary:
		tone = cli.Calm
	}
	return term.Line{
		term.In(cli.Plain, id), term.In(tone, k.Role), term.In(cli.Plain, oncall.Count(k.Pairs)), term.In(cli.Plain, oncall.Count(k.Spares)), term.In(cli.Plain, oncall.Count(k.Unread)),
	}
}
