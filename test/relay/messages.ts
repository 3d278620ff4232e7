/** Random messages, all of them within what the format allows. */
import type { Random } from '../../src/base/random.ts';
import type { MessageKind } from '../../src/relay/message.ts';
import { SHAPES } from '../../src/relay/message.ts';
import type { Shape } from '../../src/relay/shape.ts';

/** A value of a shape; each optional field is there half of the time. */
export function anyValue(shape: Shape, random: Random): unknown {
  const whole = (below: number) => Math.floor(random.next() * below);
  switch (shape.kind) {
    case 'int': {
      const span = shape.max - shape.min;
      return shape.min + Math.floor(span * random.next() ** 8);
    }
    case 'number':
      return shape.min + whole(shape.max - shape.min) / 4;
    case 'text':
      return ['', 'web', 'ä€😀 "\\', 'x'.repeat(shape.max), '__proto__'][whole(5)]?.slice(
        0,
        shape.max,
      );
    case 'term':
      return [...shape.words, 'OwnReason'][whole(shape.words.length + 1)];
    case 'uid':
      return [random.uuid(), random.uuid().replaceAll('-', ''), 'own-uid'][whole(3)];
    case 'word':
      return shape.words[whole(shape.words.length)];
    case 'flag':
      return 1;
    case 'list':
      return Array.from({ length: whole(Math.min(shape.max, 4)) }, () =>
        anyValue(shape.of, random),
      );
    case 'map':
    case 'row':
      return Object.fromEntries(
        shape.fields
          .filter((field) => !field.optional || random.next() < 0.5)
          .map((field) => [field.name, anyValue(field.shape, random)]),
      );
  }
}

export const KINDS = Object.keys(SHAPES) as MessageKind[];

/** A message of a kind, with the version that this program has. */
export function anyMessage(kind: MessageKind, random: Random): never {
  const message = anyValue(SHAPES[kind], random) as Record<string, unknown>;
  return (kind === 'snap' ? { ...message, v: '1.0' } : message) as never;
}
