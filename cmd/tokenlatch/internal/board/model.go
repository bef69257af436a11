package board

import (
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
)

// What is sent to a board.
type (
	// Rows are grants as they are now, or apps. Now is Redis' time.
	Rows struct {
		Rows []Row
		Now  time.Time
	}
	// Gone is a grant that is there no more.
	Gone struct{ App, Tenant string }
	// Listed says that all there are were sent since the last time. Others are gone.
	Listed struct{}
	// Event is one thing that has happened, as a line.
	Event struct{ Line term.Line }
	// Away says why nothing is heard just now; "" is that all is well again.
	Away string
)

// eventsKept is how many events can be shown at most.
const eventsKept = 100

// Model is a board. It is a model of bubbletea.
type Model struct {
	// Title says what is shown, and Place where that is.
	Title, Place string
	// OneApp says that all rows are of one app, which need not be said in each.
	OneApp bool
	// Colour is whether there may be some.
	Colour bool
	// Interrupted says that Ctrl-C has ended it.
	Interrupted bool

	width, height int
	rows          map[id]*kept
	round         int
	complete      bool // a listing has ended
	skew          time.Duration
	events        []term.Line
	away          string

	shown     []*Row // what View shows, in order
	stale     bool   // shown must be made anew
	madeAt    time.Time
	took      time.Duration
	order     int
	filter    string
	filtering bool
	chosen    id
	copied    string
}

// New returns a board without rows.
func New(title, place string, colour bool) *Model {
	return &Model{Title: title, Place: place, Colour: colour, rows: map[id]*kept{}, width: 80, height: 24}
}

type tick struct{}

const tickEvery = 250 * time.Millisecond

func ticking() tea.Cmd { return tea.Tick(tickEvery, func(time.Time) tea.Msg { return tick{} }) }

// Init starts the clock.
func (m *Model) Init() tea.Cmd { return ticking() }

// Update takes what is sent, and keys.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tick:
		m.arrange()
		return m, ticking()
	case tea.WindowSizeMsg:
		m.width, m.height = max(20, msg.Width), max(8, msg.Height)
	case Rows:
		m.take(msg)
	case Gone:
		delete(m.rows, id{msg.App, msg.Tenant})
		m.stale = true
	case Listed:
		m.forget()
	case Event:
		m.events = append(m.events, msg.Line)
		m.events = m.events[max(0, len(m.events)-eventsKept):]
	case Away:
		m.away = string(msg)
	case tea.KeyPressMsg:
		return m, m.key(msg)
	}
	return m, nil
}

func (m *Model) take(msg Rows) {
	if !msg.Now.IsZero() {
		m.skew = time.Until(msg.Now)
	}
	for _, r := range msg.Rows {
		m.rows[r.id()] = &kept{r, m.round}
	}
	m.stale = true
	if len(m.shown) == 0 {
		m.arrange()
	}
}

// forget drops what the listing that has ended has not seen.
func (m *Model) forget() {
	for which, k := range m.rows {
		if k.round < m.round && k.Tenant != "" {
			delete(m.rows, which)
		}
	}
	m.round++
	m.complete, m.stale = true, true
	m.arrange()
}

// arrange makes anew what is shown: of many grants not too often.
func (m *Model) arrange() {
	if !m.stale || time.Since(m.madeAt) < 10*m.took {
		return
	}
	began := time.Now()
	m.shown = arranged(m.rows, m.filter, m.order)
	m.stale, m.madeAt, m.took = false, time.Now(), time.Since(began)
	if m.at() < 0 && len(m.shown) > 0 {
		m.chosen = m.shown[0].id()
	}
}

// at returns where the chosen row stands; -1 for nowhere.
func (m *Model) at() int {
	for i, r := range m.shown {
		if r.id() == m.chosen {
			return i
		}
	}
	return -1
}

// key is a key that was pressed.
func (m *Model) key(k tea.KeyPressMsg) tea.Cmd {
	m.copied = ""
	if k.String() == "ctrl+c" {
		m.Interrupted = true
		return tea.Quit
	}
	if m.filtering {
		m.filterKey(k)
		return nil
	}
	switch k.String() {
	case "q":
		return tea.Quit
	case "/":
		m.filtering = true
	case "esc":
		m.filter = ""
		m.again()
	case "s":
		m.order = (m.order + 1) % len(orders)
		m.again()
	case "y":
		if m.at() >= 0 {
			m.copied = m.chosen.tenant
			return tea.SetClipboard(m.chosen.tenant)
		}
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "pgup":
		m.move(-m.tableHeight())
	case "pgdown", "space":
		m.move(m.tableHeight())
	case "home", "g":
		m.move(-len(m.shown))
	case "end", "G":
		m.move(len(m.shown))
	}
	return nil
}

// filterKey is a key while the filter is being typed.
func (m *Model) filterKey(k tea.KeyPressMsg) {
	switch k.String() {
	case "enter":
		m.filtering = false
	case "esc":
		m.filtering, m.filter = false, ""
	case "backspace":
		if r := []rune(m.filter); len(r) > 0 {
			m.filter = string(r[:len(r)-1])
		}
	case "ctrl+u":
		m.filter = ""
	default:
		m.filter += strings.Map(printable, k.Text)
	}
	m.again()
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return -1
	}
	return r
}

func (m *Model) again() {
	m.stale, m.took = true, 0 // who has pressed a key wants to see what it does
	m.arrange()
}

func (m *Model) move(by int) {
	if len(m.shown) > 0 {
		m.chosen = m.shown[min(max(m.at()+by, 0), len(m.shown)-1)].id()
	}
}
