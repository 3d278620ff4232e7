/** Actions and events in one line, for the trace. */
import type { Action, PodEvent } from '../../src/pod/model.ts';

export function describeAction(action: Action): string {
  const { type, key, ...rest } = action;
  const details = Object.entries(rest)
    .filter(([name]) => name !== 'volume' && name !== 'message')
    .map(([name, value]) => ` ${name}=${String(value)}`)
    .join('');
  return `${type} [${key}]${details}`;
}

export function describeEvent(event: PodEvent): string {
  switch (event.type) {
    case 'Looked': {
      const { seq, epoch, sandboxes, containers } = event.view;
      const pods = sandboxes.map((s) => `${s.id}#${s.attempt}:${s.state.slice(8)}`);
      const all = containers.map((c) => {
        const end = c.state === 'CONTAINER_EXITED' ? `(${c.exitCode} ${c.reason})` : '';
        return `${c.name}#${c.attempt}@${c.podSandboxId}:${c.state.slice(10)}${end}`;
      });
      return `Looked ${seq} ${epoch} [${pods.join(' ')}] [${all.join(' ')}]`;
    }
    case 'ActionEnded': {
      const { result } = event;
      const how = result.ok ? 'ok' : `${result.fault.code}: ${result.fault.message}`;
      return `ended ${event.action.type} [${event.action.key}] ${how}`;
    }
    case 'ActionStarted':
      return `started ${describeAction(event.action)}`;
    default:
      return JSON.stringify(event);
  }
}
