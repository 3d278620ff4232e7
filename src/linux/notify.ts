/** Tells systemd how the agent is. Source: sd_notify(3), sd_watchdog_enabled(3). */
import type { Libc } from './libc.ts';

export type Notifier = {
  /** Start-up is over. */
  ready(): void;
  /** One line for `systemctl status`. */
  status(text: string): void;
  /** The agent is alive: to be called each `watchdogMs / 2`, as long as its work goes on. */
  watchdog(): void;
  stopping(): void;
  /** How long systemd waits for a `watchdog()` before it restarts us; undefined: it does not. */
  readonly watchdogMs: number | undefined;
};

export type NotifyEnvironment = {
  readonly NOTIFY_SOCKET?: string | undefined;
  readonly WATCHDOG_USEC?: string | undefined;
  readonly WATCHDOG_PID?: string | undefined;
};

/**
 * A notifier for the service that this process is, or one that does nothing when it is none.
 *
 * @param openLibc Called only where there is somebody to tell.
 * @param warn Called once, when systemd waits for messages that can't be sent.
 */
export function createNotifier(
  env: NotifyEnvironment,
  pid: number,
  openLibc: () => Libc | undefined,
  warn: (message: string) => void,
): Notifier {
  const socket = env.NOTIFY_SOCKET ?? '';
  const libc = socket === '' ? undefined : openLibc();
  if (socket !== '' && libc === undefined) {
    warn(
      'systemd waits for a READY=1 that this Node has no way to send (node:ffi is missing): ' +
        'set Type=exec and remove WatchdogSec= in limpet.service',
    );
  }
  let warned = false;
  const send = (text: string) => {
    if (libc === undefined || libc.sendDatagram(socket, text) || warned) return;
    warned = true;
    warn(`systemd took no message at NOTIFY_SOCKET=${socket}`);
  };
  return {
    ready: () => send('READY=1'),
    status: (text) => send(`STATUS=${text.replaceAll('\n', ' ')}`),
    watchdog: () => send('WATCHDOG=1'),
    stopping: () => send('STOPPING=1'),
    watchdogMs: libc === undefined ? undefined : watchdogMs(env, pid),
  };
}

function watchdogMs(env: NotifyEnvironment, pid: number): number | undefined {
  // The variables are inherited: they are meant for one process only.
  if (env.WATCHDOG_PID !== undefined && Number(env.WATCHDOG_PID) !== pid) return undefined;
  const microseconds = Number(env.WATCHDOG_USEC ?? 'NaN');
  return microseconds > 0 ? microseconds / 1000 : undefined;
}
