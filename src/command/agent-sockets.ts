/** Finds the agent's socket where the agent was started with another run directory. */
import { lstatSync, readFileSync } from 'node:fs';
import { SOCKET_NAME } from '../server/api.ts';

/** Of `/proc/net/unix`: somebody accepts connections. */
const ACCEPTS = 0x10000;

/**
 * The paths on which agents listen, by the kernel's word. Whoever may put a socket anywhere could
 * pretend to be an agent, so only those of root and of the user's own count.
 */
export function agentSockets(): readonly string[] {
  try {
    return listeningOn(readFileSync('/proc/net/unix', 'utf8')).filter(isTrusted);
  } catch {
    return [];
  }
}

/** The paths of agents' sockets in the text of `/proc/net/unix`. Source: proc_net(5) */
export function listeningOn(table: string): readonly string[] {
  const paths = table.split('\n').flatMap((line) => {
    const [, , , flags, , , , path] = line.trim().split(/\s+/, 8);
    const listens = (Number.parseInt(flags ?? '', 16) & ACCEPTS) !== 0;
    return listens && path?.startsWith('/') && path.endsWith(`/${SOCKET_NAME}`) ? [path] : [];
  });
  return [...new Set(paths)];
}

function isTrusted(path: string): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return found?.isSocket() === true && (found.uid === 0 || found.uid === process.getuid?.());
}
