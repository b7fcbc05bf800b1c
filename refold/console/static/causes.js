// The event that was asked for is brought into sight, where the picture is wider than the page.

const picture = document.querySelector(".scroll.causes");
const asked = picture?.querySelector(".asked");
if (asked) {
  const [inside, outside] = [asked.getBoundingClientRect(), picture.getBoundingClientRect()];
  picture.scrollLeft = inside.left - outside.left - (outside.width - inside.width) / 2;
  picture.scrollTop = inside.top - outside.top - (outside.height - inside.height) / 2;
}
