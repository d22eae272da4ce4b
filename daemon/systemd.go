package daemon

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"
)

// Systemd tells systemd how the daemon is, if systemd has started it; else nothing.
type Systemd struct{}

// Ready says that the daemon serves, Stopping that it ends.
func (Systemd) Ready()    { notify(sd.SdNotifyReady) }
func (Systemd) Stopping() { notify(sd.SdNotifyStopping) }

// Reloading says that the daemon reads its configuration again; Ready ends that.
func (Systemd) Reloading() {
	notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", sd.SdNotifyReloading, monotonic().Microseconds()))
}

// notify cannot fail in a way that anything could be done about.
func notify(state string) { _, _ = sd.SdNotify(false, state) }

// Watch keeps systemd's watchdog quiet for as long as alive returns in time, until ctx is done. It returns at once if
// there is no watchdog.
func (Systemd) Watch(ctx context.Context, alive func(context.Context) error) {
	interval, err := sd.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ask, cancel := context.WithTimeout(ctx, interval/3)
		if alive(ask) == nil {
			notify(sd.SdNotifyWatchdog)
		}
		cancel()
	}
}

// Listener returns the socket of the control API that systemd has made; nil if it has not.
func (Systemd) Listener() (net.Listener, error) {
	list, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("sockets from systemd: %w", err)
	}
	if len(list) == 0 {
		return nil, nil
	}
	if len(list) > 1 {
		return nil, fmt.Errorf("%d sockets from systemd; the control API has one", len(list))
	}
	if _, ok := list[0].(*net.UnixListener); !ok {
		return nil, fmt.Errorf("the socket from systemd, %v, is not a unix socket", list[0].Addr())
	}
	return list[0], nil
}
