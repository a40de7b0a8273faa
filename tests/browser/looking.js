// What the tests ask within a page.
"use strict";

globalThis.looking = (() => {
const nameOf = element => {
  const figure = element.closest('figure') || element;
  const title = figure.querySelector('h2, h3, h4, figcaption');
  return figure.id || (title && title.textContent.trim()) || figure.outerHTML.slice(0, 80);
};

// The first text that is shown, with its whole heading.
const firstLine = () => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const range = document.createRange();
    range.selectNodeContents(text);
    const box = range.getBoundingClientRect();
    if (text.data.trim() && box.width > 1 && box.height > 1) {
      return (text.parentElement.closest('h1') || text.parentElement).innerText.replace(/\s+/g, ' ').trim();
    }
  }
  return '';
};

// By how much the page has to be moved sideways.
const wider = () => document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth;

// Where each figure is on the page: name, left, top, right, bottom.
const boxes = () => {
  return [...document.querySelectorAll('figure svg:not(svg svg)')].map(element => {
    const box = element.getBoundingClientRect();
    return [nameOf(element), box.left + scrollX, box.top + scrollY, box.right + scrollX, box.bottom + scrollY];
  });
};

// The verdict and the figures that are not to be seen. Of nine points of a figure so many must be its own; the rest may
// be under a margin of its neighbour.
const unseen = atLeast => {
  const problem = element => {
    element.scrollIntoView({block: 'center', inline: 'nearest', behavior: 'instant'});
    const box = element.getBoundingClientRect();
    if (box.width < 20 || box.height < 10) return `is ${box.width} by ${box.height}`;
    if (box.left < -1 || box.right > document.documentElement.clientWidth + 1)
      return `reaches from ${box.left} to ${box.right}`;
    if (!element.checkVisibility({opacityProperty: true, visibilityProperty: true, contentVisibilityAuto: true}))
      return 'is not shown';
    let own = 0, beside = '';
    for (const x of [0.1, 0.5, 0.9]) for (const y of [0.1, 0.5, 0.9]) {
      const left = box.left + x * box.width, top = box.top + y * box.height;
      // A figure that is taller than the window is looked at where it is within it.
      const inside = Math.min(Math.max(top, 2), innerHeight - 3);
      const hit = document.elementFromPoint(left, inside);
      if (element.contains(hit)) own += 1;
      else beside = hit ? hit.outerHTML.slice(0, 80) : 'nothing';
    }
    return own < atLeast ? `is covered by ${beside}` : '';
  };
  const found = [];
  const verdict = [...document.querySelectorAll('h1')];
  if (verdict.length !== 1) found.push(`the page has ${verdict.length} h1`);
  for (const element of [...verdict, ...document.querySelectorAll('figure svg:not(svg svg)')]) {
    const why = problem(element);
    if (why) found.push(`${nameOf(element)} ${why}`);
  }
  scrollTo(0, 0);
  return found;
};

// Texts of figures with less contrast than WCAG 2.2, 1.4.3 asks for: 4.5 to 1. axe-core does not look at those of an SVG.
const faint = () => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((part, i) => a * part + (1 - a) * below[i]);
  const linear = part => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const contrast = (one, other) => {
    const [less, more] = [light(one), light(other)].sort((a, b) => a - b);
    return (more + 0.05) / (less + 0.05);
  };
  const faded = (element, top) => {
    let opacity = 1;
    for (; element && element !== top; element = element.parentElement) opacity *= getComputedStyle(element).opacity;
    return opacity;
  };
  const filled = element => {
    const style = getComputedStyle(element), isDrawn = element instanceof SVGGeometryElement;
    const paint = isDrawn ? style.fill : style.backgroundColor;
    if (!paint || paint === 'none' || paint.startsWith('url')) return null;
    const [r, g, b, a] = rgba(paint);
    return [r, g, b, a * (isDrawn ? style.fillOpacity * faded(element, element.ownerSVGElement) : 1)];
  };
  const found = [];
  for (const text of document.querySelectorAll('figure svg text')) {
    if (!text.textContent.trim() || !text.checkVisibility()) continue;
    text.scrollIntoView({block: 'center', inline: 'nearest', behavior: 'instant'});
    const box = text.getBoundingClientRect();
    const stack = document.elementsFromPoint(box.left + box.width / 2, box.top + box.height / 2);
    let behind = rgba(getComputedStyle(document.documentElement).backgroundColor);
    behind = over(behind, matchMedia('(prefers-color-scheme: dark)').matches && behind[3] === 0
      ? [18, 18, 18] : [255, 255, 255]);
    for (const element of stack.filter(one => !text.contains(one)).reverse()) {
      const paint = filled(element);
      if (paint) behind = over(paint, behind);
    }
    const style = getComputedStyle(text), [r, g, b, a] = rgba(style.fill);
    const front = over([r, g, b, a * style.fillOpacity * faded(text, text.ownerSVGElement)], behind);
    const ratio = contrast(front, behind);
    if (ratio < 4.5) found.push(`${nameOf(text)}: "${text.textContent.trim()}" ${ratio.toFixed(1)} to 1`);
  }
  scrollTo(0, 0);
  return found;
};

return {nameOf, firstLine, wider, boxes, unseen, faint};
})();
